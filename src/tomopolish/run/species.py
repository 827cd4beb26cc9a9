"""Messages on several species in the same tomograms."""

from __future__ import annotations

from tomopolish.dataset.species import Project
from tomopolish.output.table import Table
from tomopolish.run.local import RunReport
from tomopolish.settings.alignment import AlignSettings


def species_lines(project: Project, settings: AlignSettings) -> list[str]:
    """Return the species of a run as lines for its note."""
    return [
        f"species: {s.name} from {paths.optimisation_set}, box {s.box_px} px"
        for s, paths in zip(project.species, settings.inputs.species, strict=True)
    ]


def species_table(project: Project, report: RunReport) -> Table:
    """Return a table of each species' refined particles."""
    rows = []
    for number, species in enumerate(project.species):
        counts = [len(result.alignments[number].rows) for result in report.results.values()]
        held = sum(count > 0 for count in counts)
        rows.append((species.name, f"{species.box_px}", f"{held}", f"{sum(counts)}"))
    return Table(
        title="Species (all determine the same projections)",
        columns=("species", "box\n(px)", "tomograms", "particles"),
        rows=rows,
    )
