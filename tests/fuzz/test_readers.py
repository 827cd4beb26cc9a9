"""Bytes of any kind end in the clean error or are read; `benchmarks/fuzz.py` tries many more of them."""

from __future__ import annotations

from hypothesis import given, settings
from readers import BYTES, mrc_bytes, star_bytes, survive_mrc, survive_star


@settings(max_examples=150)
@given(star_bytes())
def test_star_readers_survive(content: bytes) -> None:
    survive_star(content)


@settings(max_examples=150)
@given(mrc_bytes())
def test_the_mrc_reader_survives(content: bytes) -> None:
    survive_mrc(content)


@settings(max_examples=80)
@given(BYTES)
def test_any_bytes_are_survived_by_all_readers(content: bytes) -> None:
    survive_star(content)
    survive_mrc(content)
