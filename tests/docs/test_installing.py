"""Recipes for conda, containers and modules install what pyproject.toml states; releases agree."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pages import PAGES, ROOT

PACKAGING = ROOT / "packaging"
CONDA_NAMES = {"matplotlib": "matplotlib-base"}
"""Packages that conda-forge names otherwise."""

USERS_EXTRAS = ("report", "cluster", "gpu")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed() -> Any:
    try:
        return distribution("tomopolish")
    except PackageNotFoundError:
        pytest.skip("tomopolish runs from its source and has no metadata")


@pytest.fixture(scope="module")
def recipe() -> Any:
    return yaml.safe_load(read("packaging/conda/recipe.yaml"))


def requirements(package: Any, extra: str = "") -> set[str]:
    """Return the requirements of the core, or those that an extra adds, as conda writes them."""
    needed = set()
    for line in package.requires:
        requirement = Requirement(line)
        marker = requirement.marker
        added = marker is not None and marker.evaluate({"extra": extra}) if extra else marker is None
        if added:
            name = CONDA_NAMES.get(requirement.name, requirement.name)
            needed.add(f"{name} {_sorted(requirement.specifier)}")
    assert needed
    return needed


def _sorted(specifier: SpecifierSet) -> str:
    return ",".join(sorted(map(str, specifier), reverse=True))


def normalized(lines: list[str]) -> set[str]:
    return {f"{name} {_sorted(SpecifierSet(versions))}" for name, versions in (li.split() for li in lines)}


def test_conda_installs_the_same_packages(installed: Any, recipe: Any) -> None:
    run = normalized(recipe["requirements"]["run"])
    python = {f"python {installed.metadata['Requires-Python']}"}
    assert run == requirements(installed) | requirements(installed, "report") | python
    assert normalized(recipe["requirements"]["run_constraints"]) == requirements(installed, "cluster")
    assert python <= set(recipe["requirements"]["host"])


def test_conda_starts_the_same_command(installed: Any, recipe: Any) -> None:
    stated = [f"{point.name} = {point.value}" for point in installed.entry_points]
    assert recipe["build"]["python"]["entry_points"] == stated
    assert recipe["about"]["summary"] == installed.metadata["Summary"]
    assert recipe["about"]["license"] == installed.metadata["License-Expression"]
    backend = re.search(r"^requires = \[(.+)\]$", read("pyproject.toml"), re.MULTILINE)
    assert backend is not None
    assert set(re.findall(r'"([\w-]+)"', backend[1])) <= set(recipe["requirements"]["host"])


@pytest.mark.parametrize("name", ["Dockerfile", "tomopolish.def"])
def test_images_install_extras_that_exist_on_a_python_that_is_tested(installed: Any, name: str) -> None:
    text = read(f"packaging/{name}")
    (python,) = re.findall(r"^from:? python:([\d.]+)-slim$", text, re.MULTILINE | re.IGNORECASE)
    assert SpecifierSet(installed.metadata["Requires-Python"]).contains(python)
    assert f'python: "{python}"' in read(".github/workflows/test.yml").replace("python-version", "python")
    wanted = re.findall(r"extras=([\w,]+)", text, re.IGNORECASE)
    assert len(wanted) == 2
    assert {extra for extras in wanted for extra in extras.split(",")} == set(USERS_EXTRAS)
    assert set(USERS_EXTRAS) <= set(installed.metadata.get_all("Provides-Extra"))


def test_images_run_the_same_commands(installed: Any) -> None:
    docker, apptainer = read("packaging/Dockerfile"), read("packaging/tomopolish.def")
    (install,) = re.findall(r"^RUN (pip .+)$", docker, re.MULTILINE)
    assert f"    {install.replace('$EXTRAS', '{{ extras }}')}\n" in apptainer
    (point,) = installed.entry_points
    assert f'ENTRYPOINT ["{point.name}"]' in docker
    assert f'    exec {point.name} "$@"' in apptainer
    page = read("docs/installing.md")
    folder = re.findall(r"--wheel-dir packaging/(\w+) ", page)
    assert folder == re.findall(r"^COPY (\w+) /", docker, re.MULTILINE)
    assert folder == re.findall(r"%files\n    (\w+) /", apptainer)


def test_module_files_set_the_same_path(installed: Any) -> None:
    lua, tcl = read("packaging/modules/tomopolish.lua"), read("packaging/modules/tomopolish.tcl")
    (root,) = re.findall(r'^local root = "(.+)"$', lua, re.MULTILINE)
    assert re.findall(r"^set root (.+)$", tcl, re.MULTILINE) == [root]
    assert 'prepend_path("PATH", pathJoin(root, "commands"))' in lua
    assert "prepend-path PATH $root/commands" in tcl
    assert re.findall(r'whatis\("(.+)"\)', lua) == re.findall(r'^module-whatis "(.+)"$', tcl, re.MULTILINE)
    assert installed.metadata["Summary"] in lua
    page = read("docs/installing.md")
    assert f"python3 -m venv {root}\n" in page
    assert f"{root}/commands/tomopolish\n" in page


def test_every_place_states_the_version_that_comes_next(recipe: Any) -> None:
    citation, record = yaml.safe_load(read("CITATION.cff")), json.loads(read(".zenodo.json"))
    newest = re.search(r"^## (\d+\.\d+\.\d+), ", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    version = newest[1]
    assert str(citation["version"]) == record["version"] == recipe["context"]["version"] == version
    assert f'fallback_version = "{version}.dev0"' in read("pyproject.toml")
    for name in ("tomopolish.lua", "tomopolish.tcl"):
        assert set(re.findall(r"\d+\.\d+\.\d+", read(f"packaging/modules/{name}"))) == {version}
    for name, before in (("installing", "/"), ("citing", ",? (?:version )?")):
        stated = re.findall(rf"tomopolish{before}(\d+\.\d+\.\d+)", read(f"docs/{name}.md"))
        assert set(stated) == {version}, name


def test_metadata_of_a_release_agree(installed: Any) -> None:
    citation, record = yaml.safe_load(read("CITATION.cff")), json.loads(read(".zenodo.json"))
    assert citation["title"] == record["title"] == installed.metadata["Name"]
    assert citation["license"] == record["license"] == installed.metadata["License-Expression"]
    assert citation["type"] == record["upload_type"] == "software"
    assert citation["keywords"] == record["keywords"]
    assert " ".join(citation["abstract"].split()) == re.sub(r"</?p>", "", record["description"])
    assert [a["name"] for a in citation["authors"]] == [c["name"] for c in record["creators"]]
    (reference,), (related,) = citation["references"], record["related_identifiers"]
    assert reference["doi"] == related["identifier"]
    assert reference["doi"] in read("docs/citing.md")


def test_extras_are_named_where_they_are_used(installed: Any) -> None:
    named = {}
    for page in PAGES:
        for extras in re.findall(r"(?:tomopolish|\.)\[([\w,]+)\]'", page.read_text(encoding="utf-8")):
            named.setdefault(page.name, set()).update(extras.split(","))
    assert set().union(*named.values()) <= set(installed.metadata.get_all("Provides-Extra"))
    assert named["installing.md"] == set(USERS_EXTRAS)
    assert "cluster" in named["cluster.md"]
    assert "gpu" in named["gpu.md"]
    assert "report" in named["report.md"]
