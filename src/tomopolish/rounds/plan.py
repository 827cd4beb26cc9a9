"""What a polishing run would do and need: the plan of `--dry_run`."""

from __future__ import annotations

from tomopolish.dataset.project import Dataset
from tomopolish.dataset.species import Project
from tomopolish.run.facts import processors
from tomopolish.run.needs import free_bytes, sets_bytes, size_in_words
from tomopolish.run.plan import plan_table, plan_tomograms
from tomopolish.run.reporter import Reporter
from tomopolish.settings.polish import PolishSettings

MAPS_OF_A_ROUND = 5
ACCUMULATORS = 12
"""Values that a reconstruction holds per voxel of its half space: two half sets, two parts, three sums."""
PAGE_BYTES = 2_000_000


def show_plan(dataset: Dataset, settings: PolishSettings, size_px: int, reporter: Reporter) -> dict[str, str]:
    """Show the plan; returns the tomograms that cannot be refined, with the reason."""
    align = settings.align
    project = Project.of(dataset, align.windows.box_px)
    unusable: dict[str, str] = {}
    for name in project.tomogram_names:
        try:
            project.tomogram(name)
        except Exception as problem:  # a damaged table may raise any error
            unusable[name] = str(problem)
    names = [name for name in project.tomogram_names if name not in unusable]
    tomograms = plan_tomograms(project, align, names)
    reporter.show(plan_table(tomograms))
    round_bytes = sum(each.stored_bytes for each in tomograms) + 2 * sets_bytes(project)
    round_bytes += MAPS_OF_A_ROUND * 4 * size_px**3
    box_px = align.windows.box_px
    sums = ACCUMULATORS * 4 * (box_px + 2) ** 2 * (box_px // 2 + 2)
    needed = (settings.max_rounds + 1) * round_bytes + PAGE_BYTES
    folder = align.run.output_folder
    free = free_bytes(folder)
    reporter.say("")
    reporter.say(f"Processors: {processors(align)}")
    reporter.say(
        f"Memory: about {size_in_words(max([sums, *[each.memory_bytes for each in tomograms]]))}, of which "
        f"reconstruction needs {size_in_words(sums)}"
    )
    reporter.say(
        f"Disk: about {size_in_words(round_bytes)} for each round in {folder}, {size_in_words(needed)} for "
        f"all of at most {settings.max_rounds} rounds"
        + ("" if free is None else f"; {size_in_words(free)} are free")
    )
    if free is not None and needed > free:
        reporter.warn(
            f"--o {folder}: about {size_in_words(needed)} of disk space are needed, but "
            f"{size_in_words(free)} are free: make room, or give another folder"
        )
    for name, reason in unusable.items():
        reporter.say(f"{name} cannot be refined: {reason}")
    reporter.say(
        f"\nEverything checked: about {sum(each.seconds for each in tomograms):.0f} s for the geometry of "
        "a round, and several times that with orientations and optics; nothing was written."
    )
    return unusable
