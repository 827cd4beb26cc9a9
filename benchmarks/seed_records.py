"""Records of a study: a line of JSON for each seed, and the commands that measure seeds and show tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy_tables import insert

Record = dict[str, Any]


def read_records(path: Path) -> dict[int, Record]:
    """Finished seeds; a line that an interruption cut short is not one of them."""
    records: dict[int, Record] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            records[record["seed"]] = record
    return records


def measure_missing(
    path: Path,
    seeds: Iterable[int],
    measure: Callable[[int], Record | None],
    say: Callable[[int, Record], None],
) -> dict[int, Record]:
    """Measure the seeds that have no line yet, unless `measure` leaves them out; returns those asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds, done = list(seeds), read_records(path)
    # Whole lines only: what an interruption left of the last one goes.
    path.write_text("".join(json.dumps(r) + "\n" for r in done.values()), encoding="utf-8")
    for seed in seeds:
        record = None if seed in done else measure(seed)
        if record is None:
            continue
        done[seed] = record
        with path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(record) + "\n")
        say(seed, record)
    return {seed: done[seed] for seed in seeds if seed in done}


@dataclass(frozen=True, kw_only=True)
class SeedStudy:
    """A study with the commands ``run --o FOLDER`` and ``table FOLDER --into PAGE``.

    `measure` takes a seed and the options of ``run``; `flags` are options of its own: name → keywords.
    """

    name: str
    about: str
    seeds: Sequence[int]
    measure: Callable[[int, argparse.Namespace], Record | None]
    say: Callable[[int, Record], None]
    markdown: Callable[[Sequence[Record]], str]
    flags: Mapping[str, Mapping[str, Any]]

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Carry out the command of a command line."""
        options = self._parser().parse_args(arguments)
        if options.command == "run":
            seeds = options.seeds or self.seeds
            measure_missing(
                options.o / f"{self.name}.jsonl", seeds, lambda seed: self.measure(seed, options), self.say
            )
            return
        records = read_records(options.folder / f"{self.name}.jsonl")
        text = self.markdown([records[seed] for seed in sorted(records)])
        if options.into is None:
            print(text)
        else:
            options.into.write_text(insert(options.into.read_text(encoding="utf-8"), text), encoding="utf-8")

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            description=self.about, formatter_class=argparse.RawTextHelpFormatter
        )
        commands = parser.add_subparsers(dest="command", required=True)
        run = commands.add_parser("run", help="measure")
        run.add_argument("--o", type=Path, required=True, help="folder of the results")
        run.add_argument("--seeds", type=int, nargs="+", help="these cases instead of all")
        for flag, keywords in self.flags.items():
            run.add_argument(flag, **keywords)
        shown = commands.add_parser("table", help="print the tables")
        shown.add_argument("folder", type=Path)
        shown.add_argument("--into", type=Path, help="page to put them into")
        return parser
