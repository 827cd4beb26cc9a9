"""What a polishing run would do and need: the plan of `--dry_run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tomopolish.dataset.species import Project
from tomopolish.run.facts import processors
from tomopolish.run.inputs import show_unusable
from tomopolish.run.needs import REPORT_BYTES, sets_bytes, size_in_words
from tomopolish.run.plan import TomogramSizes, beside_free_space, plan_table, plan_tomograms
from tomopolish.run.reporter import Reporter
from tomopolish.settings.polish import PolishSettings

MAPS_OF_A_ROUND = 6
"""Maps of a species in a round, with a mask, which the first round may make."""
SETS_OF_A_ROUND = 3
"""Sets of a round in units of the input's: those of an alignment twice, and those in one frame."""
VALUES_PER_VOXEL = 43
"""Values of 4 bytes that a reconstruction takes per voxel of its half space, as measured.

It takes most while a map is made of the sums, and 24 while the sums of a group of tomograms are added.
"""
PAGE_BYTES = 2_000_000


def show_plan(
    project: Project,
    settings: PolishSettings,
    sizes: TomogramSizes,
    sizes_px: Sequence[int],
    unusable: Mapping[str, str],
    reporter: Reporter,
) -> dict[str, str]:
    """Show the plan of a checked project.

    Parameters
    ----------
    sizes
        From the check, with the settings of the first alignment.
    sizes_px
        Edge of each species' maps.
    unusable
        Tomograms that the check found impossible to refine.

    Returns
    -------
    All tomograms that cannot be refined, with the reason: also those beyond the memory.
    """
    align = settings.align
    too_large = sizes.beyond_memory(name for name in project.tomogram_names if name not in unusable)
    show_unusable(too_large, reporter)
    unusable = {**unusable, **too_large}
    tomograms = plan_tomograms(project, sizes, unusable)
    reporter.show(plan_table(tomograms))
    round_bytes = sum(each.stored_bytes for each in tomograms) + SETS_OF_A_ROUND * sets_bytes(project)
    round_bytes += REPORT_BYTES if align.run.report else 0
    round_bytes += sum(MAPS_OF_A_ROUND * 4 * size_px**3 for size_px in sizes_px)
    sums = max(VALUES_PER_VOXEL * 4 * (box_px + 2) ** 2 * (box_px // 2 + 2) for box_px in project.boxes_px)
    needed = (settings.max_rounds + 1) * round_bytes + PAGE_BYTES
    folder = align.run.output_folder
    disk, short = beside_free_space(
        f"Disk: about {size_in_words(round_bytes)} for each round in {folder}, {size_in_words(needed)} for "
        f"all of at most {settings.max_rounds} rounds",
        folder,
        needed,
    )
    reporter.say("")
    reporter.say(f"Processors: {processors(align)}")
    reporter.say(
        f"Memory: about {size_in_words(max([sums, *[each.memory_bytes for each in tomograms]]))}, of which "
        f"reconstruction needs {size_in_words(sums)}"
    )
    reporter.say(disk)
    for sentence in short:
        reporter.warn(sentence)
    reporter.say(
        f"\nEverything checked: about {sum(each.seconds for each in tomograms):.0f} s for the geometry of "
        "a round, and several times that with orientations and optics; nothing was written."
    )
    return unusable
