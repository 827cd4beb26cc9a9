"""The command lines that RELION's GUI builds, and the files it looks for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tomopolish import pipeline
from tomopolish.cli import run
from tomopolish.cli.relion_align import rank_and_size, with_workers
from tomopolish.cli.relion_external import align_arguments
from tomopolish.cli.relion_shim import MARK
from tomopolish.dataset.star import read_star
from tomopolish.errors import InputError
from tomopolish.run import align as whole_run
from tomopolish.run.relion_job import control_of
from tomopolish.run.work import Stages
from workers_marks import on_forked_workers

JOB = "Polish/job012/"
GUI = (
    f"--i optimisation_set.star --o {JOB} --b 48 --r 6 --j 1 --theme classic --fsc fsc.star "
    f"--pipeline_control {JOB}"
).split()


RELIONS_OWN = ("note.txt", "job.star", "job_pipeline.star", "default_pipeline.star", "run.out", "run.err")
"""Files that RELION writes into the folder of a job before and while the job runs."""


def exits(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / JOB).glob("RELION_JOB_*"))


def test_the_guis_job_finds_all_that_it_looks_for(project: Path) -> None:
    (project / JOB).mkdir(parents=True)
    (project / JOB / "RELION_JOB_EXIT_FAILURE").touch()
    for name in RELIONS_OWN:
        (project / JOB / name).write_text(f"{name}, as RELION wrote it\n")
    assert run(["align", *GUI]) == 0
    for name in RELIONS_OWN:
        assert (project / JOB / name).read_text() == f"{name}, as RELION wrote it\n"
    assert "tomopolish align --i optimisation_set.star" in (project / JOB / "note_tomopolish.txt").read_text()
    assert exits(project) == ["RELION_JOB_EXIT_SUCCESS"]
    for name in ("optimisation_set.star", "tomograms.star", "particles.star"):
        assert (project / JOB / name).exists()
    pdf = (project / JOB / "logfile.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert int(re.findall(rb"/Count (\d+)", pdf)[0]) == 4  # the first page, all tomograms, then one page each
    nodes = read_star(project / JOB / "RELION_OUTPUT_NODES.star").table("output_nodes")
    assert dict(
        zip(nodes.strings("rlnPipeLineNodeName"), nodes.strings("rlnPipeLineNodeTypeLabel"), strict=True)
    ) == {
        f"{JOB}optimisation_set.star": "TomoOptimisationSet.star.relion.tomo.polish",
        f"{JOB}tomograms.star": "TomogramGroupMetadata.star.relion.tomo.polish",
        f"{JOB}particles.star": "ParticleGroupMetadata.star.relion.tomo.polish",
        f"{JOB}logfile.pdf": "LogFile.pdf.relion.tomo.polish",
    }


@pytest.mark.parametrize("options", [["--i", "nowhere.star"], ["--no_such_option"], ["--r", "many"]])
def test_bad_input_leaves_the_failure_file(project: Path, options: list[str]) -> None:
    assert run(["align", *GUI, *options]) == 2
    assert exits(project) == ["RELION_JOB_EXIT_FAILURE"]


@pytest.mark.usefixtures("blank_logfile")
def test_a_failed_tomogram_leaves_the_failure_file(project: Path) -> None:
    (project / "tilt_series/TS_02.mrcs").unlink()
    assert run(["align", *GUI]) == 1
    assert exits(project) == ["RELION_JOB_EXIT_FAILURE"]
    assert (project / JOB / "particles.star").exists()


@pytest.mark.usefixtures("blank_logfile")
def test_the_abort_file_ends_the_job_and_continuing_finishes_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tomopolish.run.relion_job.SECONDS_BETWEEN_LOOKS", 0.0)

    def asking(tomogram, *rest):  # type: ignore[no-untyped-def]
        if tomogram.series.name == "TS_02":
            (project / JOB / "RELION_JOB_ABORT_NOW").touch()
        return pipeline.align_tomogram(tomogram, *rest)

    stages = Stages(prepare=whole_run.STAGES.prepare, align_tomogram=asking)
    with monkeypatch.context() as patch:
        patch.setitem(whole_run.run_align.__kwdefaults__, "stages", stages)
        assert run(["align", *GUI]) == 1
    assert exits(project) == ["RELION_JOB_EXIT_ABORTED"]
    assert "asks to abort" in capsys.readouterr().err
    assert not (project / JOB / "particles.star").exists()
    assert run(["align", *GUI, "--only_do_unfinished"]) == 0
    assert "TS_01 (1/2): finished earlier" in capsys.readouterr().out
    assert exits(project) == ["RELION_JOB_EXIT_SUCCESS"]


def test_the_job_folder_is_found_in_any_command_line() -> None:
    assert control_of(["align", "--pipeline_control", "a/"]).folder == Path("a")
    assert control_of(["align", "--pipeline_control=a/b"]).folder == Path("a/b")
    assert control_of(["align", "--pipeline_control"]).folder is None


def shimmed(project: Path, name: str, arguments: list[str], **ranks: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **ranks, "PATH": f"{project / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        [name, *arguments],
        env=environment,
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        executable=str(project / "bin" / name),
    )


def test_the_shim_runs_the_guis_job(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("tomograms.star", "particles.star"):
        lines = (project / name).read_text().splitlines()
        (project / name).write_text("\n".join([*(x for x in lines if not x.startswith("TS_02")), ""]))
    assert run(["relion-shim", "bin"]) == 0
    assert "export PATH=" in capsys.readouterr().out
    outcome = shimmed(project, "relion_tomo_align", [*GUI, "--no_report"])
    assert outcome.returncode == 0, outcome.stderr
    assert exits(project) == ["RELION_JOB_EXIT_SUCCESS"]
    assert (project / JOB / "optimisation_set.star").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("blank_logfile")
@on_forked_workers
def test_under_mpirun_only_rank_0_works_with_a_worker_for_each(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["relion-shim", "bin"]) == 0
    ranks = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    other = shimmed(project, "relion_tomo_align_mpi", GUI, **ranks)
    assert (other.returncode, other.stdout) == (0, "")
    assert not (project / JOB).exists()
    ranks["OMPI_COMM_WORLD_RANK"] = "0"
    first = shimmed(project, "relion_tomo_align_mpi", [*GUI, "--r", "many"], **ranks)
    assert first.returncode == 2 and "many" in first.stderr
    assert exits(project) == ["RELION_JOB_EXIT_FAILURE"]
    assert 'relion-align --mpi "$@"' in (project / "bin/relion_tomo_align_mpi").read_text()
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    assert run(["relion-align", "--mpi", *GUI, "--no_report"]) == 0
    out = capsys.readouterr().out
    assert "(2/2): refined" in out and "Workers are reached over TLS" in out
    assert exits(project) == ["RELION_JOB_EXIT_SUCCESS"]


def test_the_shim_replaces_only_its_own(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["relion-shim", "bin"]) == run(["relion-shim", "bin"]) == 0
    foreign = project / "bin/relion_tomo_align"
    ours = foreign.read_text()
    for text in (
        "the real one",
        f"{ours}echo and more\n",  # ours, with an added line
        ours.replace("exec", "module load relion\nexec"),
        f"#!/bin/bash\n# beside it lies what was\n{MARK}\nrelion_tomo_align_real $@\n",
        ours.replace("\n", "\r\n"),
    ):
        foreign.write_text(text, newline="")
        assert run(["relion-shim", "bin"]) == 2
        assert "does not replace it" in capsys.readouterr().err
        assert foreign.read_bytes().decode() == text


def test_a_shim_of_an_earlier_environment_is_replaced(project: Path) -> None:
    assert run(["relion-shim", "bin"]) == 0
    for path in (project / "bin").glob("relion_*"):
        path.write_text(path.read_text().replace(shlex.quote(sys.executable), "'/old place/bin/python3'"))
    assert run(["relion-shim", "bin"]) == 0
    assert all(sys.executable in path.read_text() for path in (project / "bin").glob("relion_*"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"}, (3, 8)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (2, 4)),
    ],
)
def test_launchers_tell_the_rank(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert rank_and_size(environment) == expected


def test_a_rank_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="PMI_RANK"):
        rank_and_size({"PMI_RANK": "x"})


def test_ranks_become_workers_that_share_all_threads() -> None:
    assert with_workers(["--i", "a", "--j", "4"], 3) == ["--i", "a", "--j", "12", "--workers", "3"]
    assert with_workers(["--i", "a"], 2) == ["--i", "a", "--j", "2", "--workers", "2"]
    assert with_workers(["--j", "4"], 1) == ["--j", "4"]
    assert with_workers(["--j", "4", "--workers", "5"], 2) == ["--j", "4", "--workers", "5"]


@pytest.mark.usefixtures("blank_logfile")
def test_an_external_job_runs_and_lists_its_results(project: Path) -> None:
    line = (
        "--o External/job003/ --in_parts particles.star --in_3dref ref_half1.mrc --in_mask mask.mrc "
        "--t tomograms.star --b 48 --r 6 --const_a true --per_frame_noise false --j 1"
    )
    assert run(["relion-external", *line.split()]) == 0
    folder = project / "External/job003"
    assert (folder / "RELION_JOB_EXIT_SUCCESS").exists()
    nodes = read_star(folder / "RELION_OUTPUT_NODES.star").table("output_nodes")
    assert "External/job003/particles.star" in nodes.strings("rlnPipeLineNodeName")


def test_an_external_job_polishes_and_lists_the_best_rounds_results(project: Path) -> None:
    line = (
        "--o External/job004/ --in_parts optimisation_set.star --polish true --b 48 --r 6 --rounds 1 "
        "--no_joint true --hold_out 0 --no_report true --j 1"
    )
    assert run(["relion-external", *line.split()]) == 0
    folder = project / "External/job004"
    assert (folder / "RELION_JOB_EXIT_SUCCESS").exists()
    nodes = read_star(folder / "RELION_OUTPUT_NODES.star").table("output_nodes")
    types = dict(
        zip(nodes.strings("rlnPipeLineNodeName"), nodes.strings("rlnPipeLineNodeTypeLabel"), strict=True)
    )
    assert all((project / name).is_file() for name in types)
    best = "External/job004/round01"
    assert types["External/job004/optimisation_set.star"] == "TomoOptimisationSet.star.relion.tomo.polish"
    assert types[f"{best}/particles.star"] == "ParticleGroupMetadata.star.relion.tomo.polish"
    assert types["External/job004/postprocess.star"].startswith("ProcessData.star")
    assert {types[f"{best}/maps/half{n}.mrc"].partition(".relion")[0] for n in (1, 2)} == {"DensityMap.mrc"}


def test_an_external_job_without_the_other_half_map_fails_in_a_sentence(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "--o External/job003/ --in_parts particles.star --in_3dref mask.mrc --b 48"
    assert run(["relion-external", *line.split()]) == 2
    assert "--in_3dref mask.mrc: give a map with half1" in capsys.readouterr().err
    assert (project / "External/job003/RELION_JOB_EXIT_FAILURE").exists()


def test_an_external_jobs_fields_become_options() -> None:
    line = "--o E/ --in_parts optimisation_set.star --in_coords motion.star --motion true --srp -1 --j 2"
    expected = "--o E/ --i optimisation_set.star --mot motion.star --motion --srp -1 --j 2"
    assert align_arguments(line.split()) == [*expected.split(), "--pipeline_control", "E/"]
