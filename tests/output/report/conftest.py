"""A report of a thousand tomograms, written once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from made_results import make_result

from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.commands.report import write_report


class Fleet(Mapping[str, TomogramResult]):
    """Many tomograms, alike but for their names."""

    def __init__(self, count: int) -> None:
        self.names = [f"TS_{i:04d}" for i in range(count)]
        self.one = make_result(1, tilts=3, particles=3)

    def __getitem__(self, name: str) -> TomogramResult:
        return self.one

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@pytest.fixture(scope="session")
def fleet_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The overview of a thousand tomograms, and where their pages would be."""
    pages: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomopolish.run.commands.report.write_tomogram", lambda path, *_: pages.append(path))
        return write_report(tmp_path_factory.mktemp("fleet"), Fleet(1000), {}), pages
