"""Fixtures: the site, built once, and a small project in which the commands of the pages run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tomopolish.cli import run

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parents[2]

SIZE = "--box 128 --second_box 96 --image_size 352 336 --thickness 900 --tilt_step 15 --snr 200 --max_error 6"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pages import Site

    for library in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(library, reason="the extra 'docs' is not installed")
    folder = tmp_path_factory.mktemp("docs") / "site"
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return Site(folder, build.stdout + build.stderr)


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the pages' examples run: two structures in the same tomograms."""
    folder = tmp_path_factory.mktemp("relion")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = f"--o Extract/job010 --tomograms 2 --particles 10 --second 6 {SIZE} --seed 1 --j 1"
        assert run(["simulate", *options.split()]) == 0
        for job, name in (("Ribosome/job020", ""), ("Proteasome/job021", "second_")):
            found = (folder / f"Extract/job010/{name}optimisation_set.star").read_text()
            (folder / job).mkdir(parents=True)
            (folder / job / "optimisation_set.star").write_text(found.replace(" ./", " Extract/job010/"))
        page = (ROOT / "docs/polish.md").read_text()
        (folder / "species.yaml").write_text(page.split('title="species.yaml"\n')[1].split("```")[0])
    return folder
