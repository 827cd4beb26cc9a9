"""Every command in the pages works: it is run as it stands, in a small project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from distributed import LocalCluster
from pages import NAVIGATION, PAGES, ROOT, blocks, commands
from samples import Sample, differences, rewrite, samples

from tomopolish.cli import COMMANDS as CLI
from tomopolish.cli import run
from tomopolish.tune.tuning import distance_scales

NOT_HERE = {
    r"make (demo|test|docs)": "makes an environment from the package registry",
    r"(~/tomopolish/bin/)?pip install .*": "installs from the package registry",
    r"pip wheel .*": "gets its build tools from the package registry",
    r"python3 -m venv .*": "makes an environment outside the test's folder",
    r"~/tomopolish/bin/tomopolish --version": "needs that environment",
    r"uv tool install .*": "installs from the package registry",
    r"(rattler-build|conda) .*": "needs conda's package registry",
    r"docker .*": "needs Docker's daemon and a base image",
    r"(cd packaging|apptainer .*)": "needs Apptainer and a base image",
    r"(/opt/tomopolish/0\.2\.0/bin/pip|mkdir|ln) .*": "changes folders of the system",
    r"(sudo apt|wsl) .*": "changes the system",
    r"\.venv/bin/python -m pytest .*": "part of the suite, in the environment of `make`",
    r"python benchmarks/.*": "takes minutes to hours",
    r"tomopolish demo .*": "three steps, which quick-start.md shows and which run here one by one",
    r"tomopolish .* --slurm .*": "needs a Slurm cluster",
    r"tomopolish .* --scheduler .*": "needs a running Dask scheduler",
    r"tomopolish .* --device cuda.*": "needs a GPU",
    r"tomopolish \w+ --i (Reconstruct|Polish)/job0(3[6-9]|4\d)/.*": "needs EMPIAR-10164",
    r"(for i in|wget|done)\b.*": "downloads EMPIAR-10164",
    r"dask .*": "runs until it is stopped",
    r"(umask|openssl|cp) .*": "makes certificates with the system's own programs",
}
"""Commands that cannot run here, and why."""

COMMANDS = commands()
HERE = [line for line in COMMANDS if not any(re.fullmatch(pattern, line) for pattern in NOT_HERE)]


@pytest.fixture(scope="session")
def outputs() -> dict[str, str]:
    """Return what each command that has run printed."""
    return {}


Running = Callable[[str], str]


@pytest.fixture
def less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare commands what other tests look at.

    `polish` and `tune` leave their figures empty, `tune` compares few distance scales, and workers are
    threads of this process.
    """
    for drawing in ("tomopolish.rounds.outputs.write_page", "tomopolish.run.commands.tune.write_surface"):
        monkeypatch.setattr(drawing, lambda path, *_: path.touch())
    monkeypatch.setattr(distance_scales, "__defaults__", (2,))
    monkeypatch.setattr(
        "distributed.LocalCluster", lambda **options: LocalCluster(**{**options, "processes": False})
    )


@pytest.fixture
def output_of(
    less_work: None,
    outputs: dict[str, str],
    small_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Running:
    """Return a function that runs a command, unless it has run before, and returns what it printed."""
    monkeypatch.chdir(small_project)

    def output(line: str) -> str:
        if line not in outputs:
            program, *arguments = shlex.split(line)
            assert program == "tomopolish", (
                f"{COMMANDS[line]}: neither run nor listed as impossible to run here"
            )
            capfd.readouterr()
            status = run(arguments)
            printed, messages = capfd.readouterr()
            assert status == 0, messages
            outputs[line] = printed
        return outputs[line]

    return output


@pytest.mark.parametrize("line", HERE)
def test_it_runs(line: str, output_of: Running) -> None:
    output_of(line)


IN_A_CONTAINER = r"(docker run|apptainer run) .* tomopolish(-gpu)?(:gpu|\.sif)? (?=[a-z]+ --)"
ELSEWHERE = [line for line in COMMANDS if line.startswith("tomopolish ") and line not in HERE]
ELSEWHERE += [
    re.sub(IN_A_CONTAINER, "tomopolish ", line) for line in COMMANDS if re.match(IN_A_CONTAINER, line)
]


@pytest.mark.parametrize("line", ELSEWHERE)
def test_its_options_exist_where_it_cannot_run(line: str) -> None:
    name, *options = shlex.split(line)[1:]
    assert isinstance(CLI, click.Group)
    command = CLI.get_command(click.Context(CLI), name)
    assert command is not None
    command.make_context(name, options)


@pytest.mark.parametrize("sample", samples(), ids=str)
def test_output_in_the_pages_is_that_of_the_commands(
    sample: Sample, output_of: Running, request: pytest.FixtureRequest
) -> None:
    """With ``--rewrite-samples``, the fresh output is put into the pages instead."""
    for line in HERE:  # the quick start's commands make the project, later ones build on earlier ones
        if COMMANDS[line] in ("quick-start.md", sample.page.name):
            output_of(line)
    assert sample.command in HERE, "the page shows the output of a command that it does not hold"
    if request.config.getoption("--rewrite-samples"):
        rewrite(sample, output_of(sample.command))
    else:
        assert not differences(sample, output_of(sample.command)), (
            "pytest tests/docs --rewrite-samples updates it"
        )


@pytest.mark.parametrize("pattern", NOT_HERE)
def test_what_is_said_not_to_run_here_stands_in_a_page(pattern: str) -> None:
    assert any(re.fullmatch(pattern, line) for line in COMMANDS)


def test_scripts_and_targets_that_are_not_run_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in COMMANDS:
        words = line.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
        if words[0] == "python":
            assert (ROOT / words[1]).is_file(), line


def test_commands_fit_their_column() -> None:
    """Wider ones must be scrolled: they are broken with backslashes."""
    wide = [line for b in blocks() if b.language == "sh" for line in b.text.splitlines() if len(line) > 88]
    assert wide == []


def test_no_command_hides_in_another_kind_of_block() -> None:
    command = re.compile(
        r"^ *(\$ )?(tomopolish|relion_tomo_align|make|pip|python|mpirun|dask) +\S", re.MULTILINE
    )
    for block in blocks():
        if block.language not in ("sh", "python", "text"):
            assert not command.search(block.text), f"{block.page.name}: {block.text}"
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("    ") and command.match(line):
                beginning = line.strip().removesuffix("\\").strip()
                assert any(known.startswith(beginning) for known in COMMANDS), f"{page.name}: {line}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name == "contributing.md"], ids=str)
def test_its_python_runs(page: Path, small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_project)
    monkeypatch.syspath_prepend(str(small_project))
    names: dict[str, object] = {}
    for block in blocks():
        if block.page == page and block.language == "python":
            title = re.match(r'title="(\w+\.py)"', block.attributes)
            if title:
                (small_project / title[1]).write_text(block.text, encoding="utf-8")
            else:
                exec(block.text, names)


def test_every_page_is_in_the_navigation() -> None:
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert pages | {"options.md", "changelog.md"} == set(NAVIGATION)
