"""Facts about a run that hold from its start: inputs, resolution, mask, processors, output folder."""

from __future__ import annotations

import os
from dataclasses import replace

from tomopolish.dataset.species import Project, Species, SpeciesReferences
from tomopolish.imaging.devices import cuda_devices, cuda_obstacle
from tomopolish.pipeline import weight_of
from tomopolish.plain_text import counted
from tomopolish.run.cluster.launch import threads_of_worker
from tomopolish.run.journal.recording import add_fact
from tomopolish.run.reporter import Reporter
from tomopolish.settings.alignment import AlignSettings


def show_start(project: Project, settings: AlignSettings, reporter: Reporter, *, writes: bool = True) -> None:
    """Show what a run starts from, and record it; the references are kept for the next call that needs them.

    A run that `writes` has an output folder. Raises InputError when the references cannot be read, or leave
    no frequency.
    """
    lines = []
    for species in project.species:
        files, count = species.dataset.files, counted(len(species.dataset.particles), "particle")
        source = files.source or f"{files.shown('particles')} and {files.shown('tomograms')}"
        tomograms = counted(len(species.dataset.tomogram_names), "tomogram")
        lines.append(project.named(species, f"Input: {source}, {tomograms}, {count}"))
    facts = []
    for species, prepared in zip(project.species, project.references(keep=True), strict=True):
        facts += reference_facts(project, species, prepared, settings)
    used = processors(settings)
    lines += [*facts, f"Processors: {used}"]
    if writes:
        lines.append(f"Output: {settings.run.output_folder}")
    for line in lines:
        reporter.say(line)
    add_fact("references", facts)
    add_fact("device", used)
    add_fact("threads", settings.run.threads)


def processors(settings: AlignSettings) -> str:
    """Return the processors or devices that a run would use, in words."""
    cluster, threads = settings.run.cluster, settings.run.threads
    if cluster is not None and cluster.scheduler is not None:
        return f"the workers of the cluster at {cluster.scheduler}, {threads} threads each"
    if cluster is not None and cluster.slurm is not None:
        return f"{cluster.workers} Slurm jobs with {threads_of_worker(cluster, threads)} threads each"
    devices = cuda_devices(settings.run.device)
    if devices:
        where = f"CUDA device{'' if len(devices) == 1 else 's'} {', '.join(map(str, devices))}"
    else:
        where = "CPU"
    shared = counted(threads, "thread")
    if cluster is not None:
        each = counted(threads_of_worker(cluster, threads), "thread")
        shared = f"{counted(cluster.workers or 1, 'worker')} of {each}"
    reason = "" if devices or settings.run.device != "auto" else f": {cuda_obstacle()}".partition(";")[0]
    return f"{where}, {shared} (--device {settings.run.device}{reason}; {counted(_cores(), 'core')} here)"


def reference_facts(
    project: Project, species: Species, prepared: SpeciesReferences, settings: AlignSettings
) -> list[str]:
    """Return lines on the resolution of the weights, its source, and the mask."""
    files, box = species.dataset.files, prepared.box_px
    weight = weight_of(prepared.references, replace(settings, windows=replace(settings.windows, box_px=box)))
    length = box * prepared.references.pixel_size_angstrom
    if prepared.references.fsc is not None:
        source = f"the FSC of {files.shown('fsc')}"
    else:
        source = "the two half maps' signal-to-noise ratio, since no FSC is given (--fsc)"
    if settings.weights.freq_cutoff_angstrom is not None:
        source += f" and --freq_cutoff {settings.weights.freq_cutoff_angstrom:g}"
    last = min(weight.last_frequency, box / 2)
    mask = files.shown("mask") if prepared.references.mask is not None else "none (--mask)"
    return [
        project.named(
            species,
            f"Resolution: {length / weight.last_shell:.1f} Å with full weight, none beyond "
            f"{length / last:.1f} Å, from {source}",
        ),
        project.named(species, f"Mask: {mask}"),
    ]


def _cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system has it
        return os.cpu_count() or 1
