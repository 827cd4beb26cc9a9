"""RELION's jobs run the wrappers also where a queue's template loads RELION, or a warning tells otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tomopolish.cli import run


@pytest.fixture
def shims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with wrappers, in front of PATH, and RELION's own program behind it."""
    folder, relion = tmp_path / "for relion", tmp_path / "relion" / "bin"
    relion.mkdir(parents=True)
    (relion / "relion_tomo_align").write_text("#!/bin/sh\n")
    (relion / "relion_tomo_align").chmod(0o755)
    assert run(["relion-shim", str(folder)]) == 0
    monkeypatch.setenv("PATH", f"{folder}:{relion}:/usr/bin:/bin")
    monkeypatch.delenv("RELION_QSUB_TEMPLATE", raising=False)
    return folder


def test_the_check_tells_which_program_runs(
    shims: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["relion-shim", str(shims), "--check"]) == 0
    assert "run " + str(shims / "relion_tomo_align") in capsys.readouterr().out
    relion = shims.parent / "relion" / "bin"
    monkeypatch.setenv("PATH", f"{relion}:{shims}")
    assert run(["relion-shim", str(shims), "--check"]) == 1
    assert f"relion_tomo_align on PATH is {relion}/relion_tomo_align, not" in capsys.readouterr().err
    assert run(["relion-shim", str(relion), "--check"]) == 2
    assert "has no wrappers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "warned"),
    [
        (["module load relion/5.0"], True),
        (["export PATH={}:$PATH", "ml Relion"], True),
        (["module load relion", "export PATH='{}':$PATH"], False),
        (["module load relion", "module load relion-tomopolish"], False),
        (["#SBATCH -n 4", "mpirun XXXcommandXXX"], False),
    ],
)
def test_a_template_that_puts_relion_in_front_draws_a_warning_with_the_line_to_add(
    shims: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    warned: bool,
) -> None:
    template = shims.parent / "queue.sh"
    template.write_text("\n".join(line.format(shims) for line in lines))
    monkeypatch.setenv("RELION_QSUB_TEMPLATE", str(template))
    capsys.readouterr()
    assert run(["relion-shim", str(shims), "--check"]) == int(warned)
    shown = capsys.readouterr().err
    assert ("loads RELION" in shown) == warned
    assert (f"export PATH='{shims}':$PATH" in shown) == warned
    assert run(["relion-shim", str(shims)]) == 0, "writing again says so, too"
    assert ("loads RELION" in capsys.readouterr().err) == warned
    if warned:  # the remedy works
        line = shown.split("add this line after it: ")[1].strip()
        template.write_text(f"{template.read_text()}\n{line}\n")
        assert run(["relion-shim", str(shims), "--check"]) == 0


def test_module_files_name_the_folder_and_those_of_others_stay(
    shims: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tcl, lua = (shims / "modulefiles" / f"relion-tomopolish{end}" for end in ("", ".lua"))
    assert tcl.read_text().startswith("#%Module") and f'prepend-path PATH "{shims}"' in tcl.read_text()
    assert f'prepend_path{{"PATH", "{shims}", priority=100}}' in lua.read_text()
    assert all(line.startswith(("--", "whatis(", "prepend_path")) for line in lua.read_text().splitlines())
    tcl.write_text("#%Module1.0\nset mine 1\n")
    assert run(["relion-shim", str(shims)]) == 2
    assert "did not write this file" in capsys.readouterr().err
    assert "set mine 1" in tcl.read_text()


def test_the_wrapper_of_a_folder_with_blanks_runs_tomopolish(shims: Path) -> None:
    shown = subprocess.run(
        [str(shims / "relion_tomo_align"), "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert shown.returncode == 0 and "tomopolish relion-align" in shown.stdout
