"""Every command gives the same for a tomogram's particles in many optics groups as for those in one."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.star import StarTable, read_star, write_star

EVEN, ODD = [3.0, -20.0, 5.0, 60.0], [-2.0, 9.0, 40.0]
ABERRATIONS = {
    "none": {},
    "even": {"rlnEvenZernike": EVEN},
    "even and odd": {"rlnEvenZernike": EVEN, "rlnOddZernike": ODD},
}
COUNT = 300
ALIKE = 1e-13
"""By how much the groups' aberrations differ: too little for a result, enough to keep the groups apart."""

COMMANDS = {
    "align": "align --i optimisation_set.star --b 48 --r 6 --no_report",
    "shift_only": "align --i optimisation_set.star --b 48 --r 6 --shift_only --no_report",
    "by_particles": "align --i optimisation_set.star --b 48 --r 6 --shift_only_by_particles --shift_only"
    " --no_report",
    "reconstruct": "reconstruct --i optimisation_set.star --b 48",
    "tune": "tune --i optimisation_set.star --b 48 --r 6 --s_div 100",
    "export": "export --i optimisation_set.star",
}


def vector(values: list[float], group: int) -> str:
    return f"[{','.join(f'{v * (1 + ALIKE * group)!r}' for v in values)}]"


def project(mini: Path, folder: Path, aberrations: dict[str, list[float]], groups: int) -> Path:
    """Copy the small project; its particles take turns in the first, the last and one more of the groups."""
    shutil.copytree(mini, folder, ignore=shutil.ignore_patterns("relion"))
    path = folder / "particles.star"
    star = read_star(path)
    optics, particles = star.table("optics"), star.table("particles")
    columns = {label: [cells[0]] * groups for label, cells in optics.columns.items()}
    columns["rlnOpticsGroup"] = [str(2 * g + 3) for g in range(groups)]
    columns["rlnOpticsGroupName"] = [f"session_{g}" for g in range(groups)]
    columns |= {label: [vector(v, g) for g in range(groups)] for label, v in aberrations.items()}
    used = np.array([0, groups - 1, groups // 2])[np.arange(len(particles)) % 3]
    write_star(
        path,
        [
            *[t for t in star.tables if t.name not in ("optics", "particles")],
            StarTable(name="optics", columns=columns),
            particles.with_columns({"rlnOpticsGroup": [str(2 * g + 3) for g in used]}),
        ],
    )
    return folder


def figures(path: Path) -> np.ndarray:
    """All that a file says, as numbers."""
    if path.suffix == ".mrc":
        return np.asarray(mrcfile.read(path), dtype=np.float64).ravel()
    if path.name == "particles.star":
        table = read_star(path).table("particles")
        return np.stack([table.floats(f"rlnCenteredCoordinate{axis}Angst") for axis in "XYZ"])
    words = path.read_text().replace(",", " ").split()
    numbers = [w for w in words if w.replace(".", "").replace("-", "").replace("e", "").isdigit()]
    return np.array(numbers, dtype=np.float64)


def outcome(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Run a command in a project's folder; returns the figures of what it wrote."""
    monkeypatch.chdir(folder)
    out = folder / command.split(maxsplit=1)[0]
    assert run([*shlex.split(command), "--o", str(out)]) == 0
    names = ("particles.star", "TS_01.star", "half1.mrc", "tune.json", "TS_01.xf", "TS_01.csv")
    found = {path.name: figures(path) for path in sorted(out.rglob("*")) if path.name in names}
    shutil.rmtree(out)
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [("align", kind) for kind in ABERRATIONS]
    + [(name, "even and odd") for name in COMMANDS if name != "align"],
)
def test_many_groups_give_what_one_gives(
    name: str, kind: str, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, several = (
        outcome(project(mini, tmp_path / f"{count}", ABERRATIONS[kind], count), COMMANDS[name], monkeypatch)
        for count in (1, COUNT)
    )
    assert one.keys() == several.keys()
    for file, expected in one.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(several[file], expected, atol=1e-5 * scale, err_msg=file)


def test_aberrations_matter(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values above are large enough for a result to depend on them."""
    found = [
        outcome(project(mini, tmp_path / kind, ABERRATIONS[kind], 3), COMMANDS["align"], monkeypatch)
        for kind in ABERRATIONS
    ]
    plain, even, both = (positions["particles.star"] for positions in found)
    assert np.abs(plain - even).max() > 0.01 and np.abs(even - both).max() > 0.01


def test_outputs_keep_all_groups(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(mini, tmp_path / "p", ABERRATIONS["even"], COUNT)
    _, particles = open_dataset(Path("optimisation_set.star"), working_directory=folder).load("TS_01")
    assert len(particles.optics_groups) == 3
    monkeypatch.chdir(folder)
    assert run([*shlex.split(COMMANDS["by_particles"]), "--o", "out"]) == 0
    before, after = (read_star(folder / f / "particles.star") for f in (".", "out"))
    for table, label in (("optics", "rlnEvenZernike"), ("particles", "rlnOpticsGroup")):
        assert list(after.table(table).strings(label)) == list(before.table(table).strings(label))
    assert len(after.table("optics")) == COUNT
