"""No option is accepted that does nothing: what each changes, shown by a run with it and one without.

The options come from the parser itself: a new one fails here until the table says what it changes.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

import tomopolish
from relion_project import INPUTS, MAPS
from star_edits import without_columns
from tomopolish import pipeline
from tomopolish.cli import run
from tomopolish.cli.align import COMMAND, settings_from
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.particles import CENTRED, CORNERED
from tomopolish.dataset.star import format_floats, read_star, write_star
from tomopolish.run.cluster import launch as clusters
from tomopolish.solve import uncertainty

CHANGED_PX = 1e-4
"""Sets hold 6 decimals; the same run twice differs by nothing."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Messages, exit status and files of a run."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def files(self) -> set[str]:
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()}

    def geometry(self) -> dict[str, np.ndarray]:
        """The refined geometry, by kind."""
        assert self.status == 0, self.err
        series, particles = tomopolish.load(self.folder / "optimisation_set.star").first.load("TS_01")
        found = {"projections": series.projections_px[:, :2], "positions": particles.positions_px}
        if particles.trajectories_px is not None:
            found["trajectories"] = particles.trajectories_px
        if series.deformation is not None:
            found["deformation"] = series.deformation.coefficients
        return found

    def uncertainty(self) -> str:
        """The file of standard errors."""
        return (self.folder / "uncertainty.star").read_text()

    def particles(self) -> str:
        """The particle set."""
        return (self.folder / "particles.star").read_text()

    def tilts(self) -> str:
        """The table of the tilt series."""
        return (self.folder / "tilt_series" / "TS_01.star").read_text()

    def text(self) -> str:
        """The messages without folders and times, which differ between runs."""
        return re.sub(r"\d+\.\d+( s)?|run\d+|about \d+ s left", "", self.out)


@dataclass(frozen=True, eq=False)
class Bench:
    """Runs the command in a small project; a command line that was run before is not run again."""

    project: Path
    done: dict[str, Outcome] = field(default_factory=dict)

    def __call__(self, options: str = "", *, fresh: bool = False) -> Outcome:
        if options not in self.done or fresh:
            folder = self.project / f"run{len(self.done)}{'fresh' if fresh else ''}"
            words = shlex.split(options)
            for name, value in (("--i", "optimisation_set.star"), ("--b", "48"), ("--r", "6")):
                if name not in words:
                    words += [name, value]
            if "--o" in words:
                folder = self.project / words[words.index("--o") + 1]
            else:
                words += ["--o", str(folder)]
            if "--report" not in words:
                words += ["--no_report"]
            if "--hold_out" not in words:
                words += ["--hold_out", "0"]
            words = [w for w in words if w != "--report"]
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err):
                status = run(["align", *words])
            self.done[options] = Outcome(status, out.getvalue(), err.getvalue(), folder)
        return self.done[options]


@pytest.fixture(scope="module")
def bench(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("options")
    for name in (*INPUTS, *MAPS):
        shutil.copy(mini / name, folder)
    for name in ("tilt_series", "relion"):
        (folder / name).symlink_to(mini / name)
    _other_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # how sure a solution is, is not asked here
        patch.setattr(uncertainty, "PROBES", ((np.inf, 1),))
        yield Bench(folder)


def _other_inputs(folder: Path) -> None:
    """Files that differ from the project's, for the options that name files."""
    lines = (folder / "particles.star").read_text().rstrip("\n").split("\n")
    (folder / "fewer.star").write_text("\n".join([*lines[:-1], ""]))
    text = (folder / "optimisation_set.star").read_text()
    (folder / "other_set.star").write_text(text.replace("particles.star", "fewer.star"))
    with mrcfile.open(folder / "mask.mrc") as file:
        mask, size = file.data.copy(), file.voxel_size
    mask[: len(mask) // 2] = 0
    with mrcfile.new(folder / "half_mask.mrc", data=mask) as file:
        file.voxel_size = size
    table = (folder / "fsc.star").read_text().split("\n")
    kept = [n for n, line in enumerate(table) if re.match(r"^\s*\d+\s", line)]
    column = next(line for line in table if "rlnFourierShellCorrelationCorrected" in line)
    place = int(column.split("#")[1]) - 1
    for n in kept[7:]:
        cells = table[n].split()
        cells[place] = "0.0"
        table[n] = " ".join(cells)
    (folder / "low_fsc.star").write_text("\n".join(table))
    broken = [line.replace("TS_01", "TS_02") for line in lines if line.startswith("TS_01")]
    (folder / "two.star").write_text("\n".join([*lines, *broken, ""]))
    star = read_star(folder / "particles.star")
    table = star.table("particles")
    middle = (96, 96, 125)
    cells = [table.floats(label) / 4 + centre for label, centre in zip(CENTRED, middle, strict=True)]
    pixels = dict(zip(CORNERED, map(format_floats, cells), strict=True))
    write_star(folder / "pixels.star", star.with_table(without_columns(table, CENTRED).with_columns(pixels)))
    lines = (folder / "tomograms.star").read_text().rstrip("\n").split("\n")
    second = [line.replace("TS_01", "TS_02") for line in lines if line.startswith("TS_01")]
    (folder / "two_tomograms.star").write_text("\n".join([*lines, *second, ""]))


Check = Callable[[Bench], None]


def distance(one: Outcome, other: Outcome) -> float:
    """Largest difference between two results; infinite where they do not hold the same things."""
    a, b = one.geometry(), other.geometry()
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return np.inf
    return max(float(np.abs(a[k] - b[k]).max()) for k in a)


def changes(options: str, beside: str = "", also: Callable[[Outcome], Any] | None = None) -> Check:
    """With `options` the refined geometry is another than without; `beside` is given to both."""

    def check(bench: Bench) -> None:
        found = bench(f"{beside} {options}".strip())
        assert distance(found, bench(beside)) > CHANGED_PX
        assert also is None or also(found)

    return check


def keeps(option: str, name: str) -> Check:
    """The option changes the geometry, but for the part that it keeps as it came in."""

    def check(bench: Bench) -> None:
        changes(option)(bench)
        before = open_dataset(Path("optimisation_set.star")).load("TS_01")
        after = tomopolish.load(bench(option).folder / "optimisation_set.star").first.load("TS_01")
        kept = {
            "positions": lambda load: load[1].positions_px,
            "angles": lambda load: load[0].projections_px[:, :3, :3],
            "shifts": lambda load: (
                load[0].projections_px @ [*(np.array(load[0].tomogram_size_px) // 2), 1.0]
            )[:, :2],
        }[name]
        np.testing.assert_allclose(kept(after), kept(before), atol=2e-5)

    return check


def leaves_out(options: str, *numbers: int) -> Check:
    """The option changes the geometry, but for the tilt images of these numbers, which keep their rows."""

    def check(bench: Bench) -> None:
        changes(options)(bench)
        before = (bench.project / "tilt_series/TS_01.star").read_text().splitlines()
        after = (bench(options).folder / "tilt_series/TS_01.star").read_text().splitlines()
        cells = [[line.split() for line in lines if len(line.split()) > 5] for lines in (before, after)]
        kept = [n for n, rows in enumerate(zip(*cells, strict=True), start=1) if rows[0] == rows[1]]
        assert kept == list(numbers)
        assert "left out: --" in bench(options).err

    return check


def writes(options: str, *names: str) -> Check:
    """With the option the same result comes with these further files."""

    def check(bench: Bench) -> None:
        found, without = bench(options), bench()
        assert set(names) <= found.files - without.files
        assert distance(found, without) == 0

    return check


def refused(option: str) -> Check:
    def check(bench: Bench) -> None:
        found = bench(option)
        assert found.status == 2 and option in found.err and found.err.count("\n") == 1

    return check


def shift_only(options: str, beside: str) -> Check:
    """One shift per tilt image; positions and angles stay."""

    def check(bench: Bench) -> None:
        keeps("--shift_only --shift_only_by_particles", "positions")(bench)
        keeps("--shift_only --shift_only_by_particles", "angles")(bench)
        changes(options, beside)(bench)

    return check


def hold_out(bench: Bench) -> None:
    """The evidence of held-out pairs is shown; the final fit uses all pairs."""
    found, without = bench("--hold_out 0.2"), bench()
    assert "held out" in found.out and "held out" not in without.out
    assert "was not tested" in without.out and "was not tested" not in found.out
    assert distance(found, without) < 0.1


def config(bench: Bench) -> None:
    (bench.project / "options.yaml").write_text("range_reg: 0.4\n")
    assert bench("--config options.yaml").status == 0
    assert distance(bench("--config options.yaml"), bench("--range_reg 0.4")) == 0


def only(bench: Bench) -> None:
    found = bench("--only TS_01")
    assert found.status == 0 and "only/TS_01/temp/TS_01.npz" in found.files
    assert not any(name.endswith("particles.star") for name in found.files)


def quiet(bench: Bench) -> None:
    assert bench("--quiet").out == "" and distance(bench("--quiet"), bench()) == 0


def verbose(bench: Bench) -> None:
    assert "): noise, " in bench("--verbose").out


def no_outliers(bench: Bench) -> None:
    assert "scores.star" in bench().files and "scores.star" not in bench("--no_outliers").files


def no_report(bench: Bench) -> None:
    found = bench("--report")
    assert "report.html" in found.files and "report.html" not in bench().files


def dry_run(bench: Bench) -> None:
    found = bench("--dry_run")
    assert found.status == 0 and not found.folder.exists() and "visible pairs" in found.out


def other_folder(bench: Bench) -> None:
    bench("--o elsewhere/deeper")
    assert (bench.project / "elsewhere/deeper/optimisation_set.star").exists()


def only_do_unfinished(bench: Bench) -> None:
    bench("--o again")
    assert "finished earlier" in bench("--o again --only_do_unfinished").out
    assert "finished earlier" not in bench("--o again", fresh=True).out
    # what it was told otherwise is done again
    assert "refined again" in bench("--o again --only_do_unfinished --srp 1").out


def overwrite(bench: Bench) -> None:
    folder = bench.project / "taken"
    folder.mkdir()
    (folder / "particles.star").write_text("of another program")
    refused = bench("--o taken")
    assert refused.status == 2 and "would replace particles.star" in refused.err
    assert (folder / "particles.star").read_text() == "of another program"
    assert bench("--o taken --overwrite").status == 0
    assert (folder / "particles.star").read_text() != "of another program"


def strict(bench: Bench) -> None:
    """The second tomogram has no images."""
    files = "--t two_tomograms.star --p two.star"
    images = bench.project / "tilt_series"
    source = images.resolve()
    images.unlink()
    images.mkdir()
    for path in source.iterdir():
        (images / path.name).symlink_to(path)
    text = (source / "TS_01.star").read_text()
    (images / "TS_02.star").write_text(text.replace("TS_01", "TS_02"))
    lenient, hard = bench(files), bench(f"{files} --strict")
    assert lenient.status == 1 and "particles.star" in lenient.files
    assert hard.status != 0 and "TS_02" in hard.err
    assert not hard.folder.exists() or "particles.star" not in hard.files


def pipeline_control(bench: Bench) -> None:
    found = bench("--o job --pipeline_control job")
    expected = {"RELION_JOB_EXIT_SUCCESS", "RELION_OUTPUT_NODES.star", "logfile.pdf"}
    assert expected <= found.files and not expected & bench().files


def ignored(options: str) -> Check:
    """RELION's GUI gives it, and it must not matter."""

    def check(bench: Bench) -> None:
        found = bench(options)
        assert distance(found, bench()) == 0
        assert found.text() == bench().text()

    return check


def debug(bench: Bench) -> None:
    fault = "--p nowhere.star"
    assert "Traceback" not in bench(fault).err and "Traceback" in bench(f"{fault} --debug").err


def threads(bench: Bench) -> None:
    """The result is the same to rounding; the work is spread over as many threads."""
    asked: list[int] = []

    class Pool(pipeline.align.ThreadPoolExecutor):  # type: ignore[name-defined,misc]
        def __init__(self, workers: int) -> None:
            asked.append(workers)
            super().__init__(workers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.align, "ThreadPoolExecutor", Pool)
        found = bench("--j 2")
    assert set(asked) == {2} and distance(found, bench()) < 1e-3


def device(bench: Bench) -> None:
    """Without such a device there is a sentence."""
    found = bench("--device cuda:63")
    assert found.status == 2 and "cuda" in found.err.lower()
    assert distance(bench("--device cpu"), bench()) < 1e-3


def workers_of(options: str) -> Any:
    """The cluster from which a command line starts its workers."""
    words = shlex.split(f"--i set.star --b 48 --o out {options}")
    settings = settings_from(COMMAND.make_context("align", words).params)
    found = settings.run.cluster
    if found is None or found.scheduler is not None:
        return found
    pytest.importorskip("distributed")
    if found.slurm is not None:
        jobs = pytest.importorskip("dask_jobqueue.slurm")
        slurm = clusters.slurm_options(found.slurm, settings.run.threads)
        return found.workers, jobs.SLURMJob("tcp://head:8786", name="job", **slurm).job_script()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distributed.LocalCluster", lambda **started: started)
        started = clusters._local_cluster(found)
        del started["security"]  # new for each run
        return started


def starts(options: str, shown: str, beside: str = "") -> Check:
    """The workers are started with it, and it shows in how."""

    def check(bench: Bench) -> None:
        found = workers_of(f"{beside} {options}")
        assert found != workers_of(beside) and shown in str(found)

    return check


def profile(bench: Bench) -> None:
    (bench.project / "lab.yaml").write_text("workers: 3\n")
    assert workers_of("--cluster_profile lab.yaml") == workers_of("--workers 3")


SLURM = "--slurm --workers 2"
TLS = "--tls_ca_file ca.pem --tls_cert cert.pem --tls_key key.pem"
MOTION, WARP = "--motion --s_vel 2", "--deformation --def_reg 0.05"

TABLE: dict[str, Check] = {
    # input
    "--i": changes("--i other_set.star"),
    "--p": changes("--p fewer.star", also=lambda found: len(found.geometry()["positions"]) == 5),
    "--t": changes("--t relion/static/tomograms.star"),
    "--mot": changes("--mot relion/motion/motion.star", also=lambda f: "trajectories" in f.geometry()),
    "--ref1": changes("--ref1 ref_half2.mrc"),
    "--ref2": changes("--ref2 ref_half1.mrc"),
    "--mask": changes("--mask half_mask.mrc"),
    "--fsc": changes("--fsc low_fsc.star"),
    "--relion_version": changes(
        "--relion_version 4",
        "--p pixels.star",
        also=lambda f: (
            "as RELION 4.0 does" in f.out and "--relion_version" in (f.folder / "note.txt").read_text()
        ),
    ),
    # alignment
    "--b": changes("--b 56"),
    "--r": changes("--r 8"),
    "--const_p": keeps("--const_p", "positions"),
    "--const_a": keeps("--const_a", "angles"),
    "--const_s": keeps("--const_s", "shifts"),
    "--shift_only": shift_only("--shift_only", ""),
    "--shift_only_by_particles": shift_only("--shift_only_by_particles", "--shift_only"),
    "--range_reg": changes("--range_reg 10", "--r 3"),
    "--it": changes("--it 1", also=lambda found: "had not converged" in found.err),
    "--min_frame": changes("--min_frame 3"),
    "--max_frame": changes("--max_frame 7"),
    "--exclude_tilts": leaves_out("--exclude_tilts TS_01:2,9-10", 2, 9, 10),
    "--max_tilt_angle": leaves_out("--max_tilt_angle 48", 1, 11),
    "--max_dose": leaves_out("--max_dose 26", 1, 11),
    "--pad": changes("--pad 2"),
    "--ref_scale": changes("--ref_scale 0.5"),
    "--hold_out": hold_out,
    "--no_outliers": no_outliers,
    "--aniso": refused("--aniso"),
    "--per_tilt_aniso": refused("--per_tilt_aniso"),
    # weights
    "--freq_cutoff": changes("--freq_cutoff 20"),
    "--fsc_thresh_width": changes("--fsc_thresh_width 1"),
    "--use_SNR_weight": changes("--use_SNR_weight"),
    "--per_frame_noise": changes("--per_frame_noise"),
    "--no_whiten": changes("--no_whiten"),
    "--whiten_abs": changes("--whiten_abs"),
    "--hp": changes("--hp 4"),
    "--srp": changes("--srp 1"),
    "--cutoff_fract": changes("--cutoff_fract 0.5"),
    # motion
    "--motion": changes(MOTION, also=lambda found: "motion.star" in found.files),
    "--s_vel": changes("--s_vel 0.5", "--motion --s_div 300 --s_vel 2"),
    "--s_div": changes("--s_div 300", MOTION),
    "--abs_params": changes("--abs_params", MOTION),
    "--sq_exp_ker": changes("--sq_exp_ker", MOTION),
    "--max_ed": changes("--max_ed 1", MOTION),
    # warps
    "--deformation": changes(WARP, also=lambda found: "deformation" in found.geometry()),
    "--def_w": changes("--def_w 2", WARP),
    "--def_h": changes("--def_h 2", WARP),
    "--def_model": changes("--def_model Fourier", WARP),
    "--def_reg": changes("--def_reg 5", WARP),
    "--per_frame_deformation": changes("--per_frame_deformation", WARP),
    # views and optics
    "--joint": changes("--joint", also=lambda found: "tomopolishSigmaOrientation" in found.uncertainty()),
    "--orientations": changes("--orientations", also=lambda found: "rlnAngleRot" in found.particles()),
    "--defocus": changes(
        "--defocus", also=lambda found: "tomopolishSigmaDefocusAngst" in found.uncertainty()
    ),
    "--astigmatism": changes(
        "--astigmatism", also=lambda found: "tomopolishSigmaAstigmatismAngst" in found.uncertainty()
    ),
    "--phase_shift": changes("--phase_shift", also=lambda found: "rlnPhaseShift" in found.tilts()),
    "--tilt_scale": changes("--tilt_scale", also=lambda found: "rlnCtfScalefactor" in found.tilts()),
    "--tilt_bfactor": changes(
        "--tilt_bfactor", also=lambda found: "tomopolishSigmaBfactor" in found.uncertainty()
    ),
    # run
    "--o": other_folder,
    "--j": threads,
    "--device": device,
    "--dry_run": dry_run,
    "--only_do_unfinished": only_do_unfinished,
    "--overwrite": overwrite,
    "--strict": strict,
    "--evaluate": writes("--evaluate", "evaluation/fsc_before.star", "evaluation/slices_after.mrc"),
    "--diag": writes("--diag", "CCsum_TS_01.mrc", "diag_TS_01_frq_weight.mrc"),
    "--no_report": no_report,
    "--pipeline_control": pipeline_control,
    "--theme": ignored("--theme classic"),
    "--debug": debug,
    # several tomograms at a time
    "--workers": starts("--workers 3", "'n_workers': 3"),
    "--scheduler": starts("--scheduler tcp://host:8786", "tcp://host:8786"),
    "--tls_ca_file": starts(f"{TLS} --tls_ca_file a.pem", "a.pem", "--scheduler tls://host:8786"),
    "--tls_cert": starts(f"{TLS} --tls_cert b.pem", "b.pem", "--scheduler tls://host:8786"),
    "--tls_key": starts(f"{TLS} --tls_key c.pem", "c.pem", "--scheduler tls://host:8786"),
    "--connect_timeout": starts("--connect_timeout 17", "17", "--scheduler tcp://host:8786"),
    "--dashboard": starts("--dashboard", "dashboard=True", "--scheduler tcp://host:8786"),
    "--worker_memory": starts("--worker_memory 3GB", "'memory_limit': '3GB'", "--workers 2"),
    "--slurm": starts("--slurm", "#SBATCH", "--workers 2"),
    "--slurm_partition": starts("--slurm_partition gpu", "#SBATCH -p gpu", SLURM),
    "--slurm_account": starts("--slurm_account lab7", "#SBATCH -A lab7", SLURM),
    "--slurm_qos": starts("--slurm_qos long", "#SBATCH --qos=long", SLURM),
    "--slurm_walltime": starts("--slurm_walltime 12:34:00", "-t 12:34:00", SLURM),
    "--slurm_memory": starts("--slurm_memory 13GB", "--mem=13G", SLURM),
    "--slurm_gpus": starts("--slurm_gpus 2", "--gres=gpu:2", SLURM),
    "--slurm_directive": starts("--slurm_directive=--account=lab", "#SBATCH --account=lab", SLURM),
    "--slurm_prologue": starts("--slurm_prologue 'module load x'", "module load x", SLURM),
    "--cluster_profile": profile,
    "--only": only,
    "--config": config,
    "--quiet": quiet,
    "--verbose": verbose,
}

OPTIONS = [parameter.opts[0] for parameter in COMMAND.params]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_option_does_what_it_says(option: str, bench: Bench) -> None:
    assert option in TABLE, f"say in the table what {option} changes"
    TABLE[option](bench)


def test_a_cutoff_that_leaves_no_frequency_is_refused(bench: Bench) -> None:
    found = bench("--freq_cutoff 193")
    assert found.status == 2 and found.err.count("\n") == 1
    assert "--freq_cutoff 193 leaves no frequency" in found.err and "192 Å" in found.err
    assert bench("--freq_cutoff 90").status == 0
    # a weight that only the first exposures reach
    warned = bench("--cutoff_fract 0.999").err
    assert re.search(r"warning: tilt images [\d, ]+ of TS_01 have no frequency left", warned)


CONSTANT = {
    "--const_p --const_a --const_s --deformation": ("positions", "projections"),
    "--const_p --const_a --per_frame_deformation --deformation": ("positions",),
    "--const_a --const_s --motion": ("projections",),
    "--const_s --motion --deformation --def_w 2 --def_h 2": (),
}


@pytest.mark.parametrize("options", CONSTANT)
def test_what_is_constant_stays_beside_motion_and_warps(options: str, bench: Bench) -> None:
    found = bench(options)
    assert found.status == 0 and "had not converged" not in found.err
    assert distance(found, bench()) > CHANGED_PX
    series, particles = open_dataset(Path("optimisation_set.star")).load("TS_01")
    before = {"projections": series.projections_px[:, :2], "positions": particles.positions_px}
    for part in CONSTANT[options]:
        np.testing.assert_allclose(found.geometry()[part], before[part], atol=2e-5)


def test_frames_beyond_the_series_draw_a_warning(bench: Bench) -> None:
    found = bench("--min_frame 11")
    assert found.err.count("\n") == 1 and "leave none of the 11 tilt images of TS_01" in found.err
    series, particles = open_dataset(Path("optimisation_set.star")).load("TS_01")
    np.testing.assert_allclose(found.geometry()["positions"], particles.positions_px, atol=2e-5)
    np.testing.assert_allclose(found.geometry()["projections"], series.projections_px[:, :2], atol=2e-5)


IDLE = {
    "--worker_memory 3GB": "--worker_memory",
    "--slurm_gpus 2 --workers 2": "--slurm",
    "--worker_memory 3GB --slurm --workers 2": "--worker_memory",
    "--worker_memory 3GB --scheduler tcp://host:8786": "--worker_memory",
    "--shift_only_by_particles": "--shift_only",
}


@pytest.mark.parametrize("options", IDLE)
def test_options_that_would_do_nothing_are_refused(options: str, bench: Bench) -> None:
    found = bench(options)
    assert found.status == 2 and IDLE[options] in found.err and found.err.count("\n") == 1


WITHOUT_EFFECT = {
    "--sq_exp_ker": "--sq_exp_ker has no effect without --motion",
    "--per_frame_deformation": "--per_frame_deformation has no effect without --deformation",
    "--deformation --def_model linear --def_w 4": "--def_w has no effect with --def_model linear",
    "--no_whiten --per_frame_noise": "--per_frame_noise has no effect with --no_whiten",
    "--shift_only --shift_only_by_particles --it 5": "--it has no effect with --shift_only",
}


@pytest.mark.parametrize("options", WITHOUT_EFFECT)
def test_options_without_effect_beside_others_draw_a_warning(options: str, bench: Bench) -> None:
    assert f"warning: {WITHOUT_EFFECT[options]}\n" in bench(f"{options} --dry_run").err


def test_the_table_holds_no_option_that_is_gone() -> None:
    assert set(TABLE) <= set(OPTIONS)


def test_the_help_lists_every_option_and_refuses_only_anisotropy() -> None:
    text = COMMAND.get_help(COMMAND.make_context("align", [], resilient_parsing=True))
    assert all(option in text for option in OPTIONS)
    assert set(re.findall(r"(--\w+)[^\n]*\s+Refused", text)) == {"--aniso", "--per_tilt_aniso"}
