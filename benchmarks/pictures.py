"""Make the pictures of the pages from small simulated projects: `python benchmarks/pictures.py`.

It takes two minutes, and needs the extras `report` and `test` and the system's Chromium. Pictures are
written to ``docs/pictures``, with few colours so that each stays below 150 kB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import mrcfile
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tomopolish.cli import run

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
COLOURS = 128

COMMANDS = (
    "simulate --o demo/project --tomograms 2 --particles 40 --box 64 --image_size 512 480 --tilt_step 3 "
    "--snr 60 --max_error 9 --seed 1",
    "align --i demo/project/optimisation_set.star --b 64 --r 10 --evaluate --o demo/aligned",
    "polish --i demo/project/optimisation_set.star --own_references --b 64 --r 10 --o demo/polished",
    "simulate --o dirty/project --particles 60 --box 64 --image_size 512 480 --tilt_step 3 --snr 60 "
    "--max_error 6 --false_particles 0.3 --blank_images 2 --seed 2",
    "align --i dirty/project/optimisation_set.star --b 64 --r 10 --o dirty/aligned",
)
INVERTED = (
    "align --i demo/project/optimisation_set.star --ref1 inverted1.mrc --ref2 inverted2.mrc --b 64 --r 10 "
    "--o demo/doubtful"
)


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A part of a report: from the top of the first element to the bottom of the last, at a width in px."""

    name: str
    report: str
    first: str
    last: str
    width: int = 900


SHOTS = (
    Shot(name="report.png", report="demo/aligned", first="h1", last="#tomograms", width=1100),
    Shot(name="doubt.png", report="demo/doubtful", first="h1", last=".cards"),
    *(
        Shot(name=f"{name}.png", report=f"{run}/aligned", first=figure, last=figure, width=width)
        for name, run, kind, width in (
            ("shifts", "demo", "shifts", 900),
            ("displacements", "demo", "vectors", 620),
            ("windows", "demo", "windows", 760),
            ("scores", "dirty", "scores", 760),
            ("resolution", "demo", "shells", 760),
            ("image", "dirty", "image", 620),
            ("slices", "demo", "slices", 760),
        )
        for figure in (f"figure[data-kind={kind}]",)
    ),
    Shot(name="polish.png", report="demo/polished", first="h1", last="figure"),
)
MAPS = "maps.png"
NAMES = {MAPS, *(shot.name for shot in SHOTS)}


def main() -> None:
    """Run the commands in a folder, or take those that an earlier call left there, and make all pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="where the runs are kept; a temporary folder if none"
    )
    folder = parser.parse_args().folder
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(_existing(folder or Path(temporary)))
        if not Path("demo/doubtful").exists():
            _run_all()
        _draw_maps(FOLDER / MAPS)
        with sync_playwright() as playwright:
            path = next(found for found in map(shutil.which, BROWSERS) if found)
            arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
            browser = playwright.chromium.launch(executable_path=path, args=arguments)
            for shot in SHOTS:
                page = browser.new_page(viewport={"width": shot.width, "height": 900})
                _photograph(page, shot)
                page.close()
            browser.close()
    for name in sorted(NAMES):
        _reduce(FOLDER / name)
        print(f"{name}: {(FOLDER / name).stat().st_size / 1000:.0f} kB")


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run_all() -> None:
    for command in COMMANDS:
        _carry_out(command)
    for half in (1, 2):
        _invert(Path(f"demo/project/ref_half{half}.mrc"), Path(f"inverted{half}.mrc"))
    _carry_out(INVERTED)


def _carry_out(command: str) -> None:
    status = run([*command.split()])
    assert status == 0, command


def _invert(source: Path, target: Path) -> None:
    with mrcfile.open(source) as given, mrcfile.new(target) as inverted:
        inverted.set_data(-given.data)
        inverted.voxel_size = given.voxel_size.copy()


def _photograph(page: Page, shot: Shot) -> None:
    page.goto(Path(shot.report, "report.html").absolute().as_uri())
    page.evaluate("typeof report === 'undefined' ? null : report.drawAll()")
    page.wait_for_timeout(500)
    top, bottom = page.locator(shot.first).first.bounding_box(), page.locator(shot.last).first.bounding_box()
    assert top is not None and bottom is not None, shot
    page.screenshot(path=FOLDER / shot.name, full_page=True, clip=_clip(shot, top, bottom))


def _clip(shot: Shot, top: Any, bottom: Any) -> Any:
    margin = 12
    y = max(top["y"] - margin, 0)
    height = bottom["y"] + bottom["height"] + margin - y
    return {"x": 0, "y": y, "width": shot.width, "height": height}


def _draw_maps(path: Path) -> None:
    """Draw the slice with most contrast through the sharpened maps of the input and of the best round."""
    maps = []
    for folder in ("round00/maps", "."):
        with mrcfile.open(Path("demo/polished", folder, "postprocess_masked.mrc")) as sharpened:
            maps.append(np.array(sharpened.data))
    depth = int(np.argmax(maps[1].std(axis=(1, 2))))
    figure, axes = pyplot.subplots(1, 2, figsize=(6.4, 3.4), dpi=110)
    for axis, volume, title in zip(axes, maps, ("input", "best round"), strict=True):
        shown = volume[depth]
        high = np.percentile(shown, 99.9)
        axis.imshow(shown, cmap="gray", vmin=-0.3 * high, vmax=high, interpolation="bicubic", origin="lower")
        axis.set(title=title, xticks=(), yticks=())
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _reduce(path: Path) -> None:
    """Store a picture with few colours."""
    with Image.open(path) as picture:
        fewer = picture.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE)
    fewer.save(path, optimize=True)


if __name__ == "__main__":
    main()
