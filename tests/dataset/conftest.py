"""A project of its own for every test that changes files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def project(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the small reference project, which is also the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(mini, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def in_golden(golden: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The larger reference project as working directory."""
    monkeypatch.chdir(golden)
    return golden
