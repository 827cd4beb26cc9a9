"""Files of a sound project with a few changes end in the clean error or are used; nothing else happens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import CHANGES, Change, change_mrc, change_star
from sound_project import IMAGES, STARS, SoundProject


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> SoundProject:
    return SoundProject(tmp_path_factory.mktemp("sound") / "project")


def test_without_changes_the_project_is_accepted(sound: SoundProject) -> None:
    for name, content in sound.contents.items():
        assert sound.survive(name, content) == "accepted"
        assert sound.survive(name, b"").startswith("refused")


def test_changed_star_files_are_survived(sound: SoundProject) -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(st.sampled_from(STARS), CHANGES)
    def search(name: str, changes: list[Change]) -> None:
        met[sound.survive(name, change_star(sound.contents[name], changes))] += 1

    search()
    assert met["accepted"] > 25  # not all cases end at the first check
    assert met["refused when opened"] > 25
    assert met["refused by the checks"] > 25


def test_changed_image_files_are_survived(sound: SoundProject) -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=150)
    @given(st.sampled_from(IMAGES), CHANGES)
    def search(name: str, changes: list[Change]) -> None:
        met[sound.survive(name, change_mrc(sound.contents[name], changes))] += 1

    search()
    assert met["accepted"] > 15
    assert met["refused by the checks"] > 15
