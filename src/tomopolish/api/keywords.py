"""Keywords of the public functions: what they are called, what they may be, and how mistakes are answered."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict, TypeVar

from tomopolish.errors import InputError, TomopolishError
from tomopolish.run.limits import check_address_space, threads_that_fit
from tomopolish.settings.alignment import DeformationSettings, MotionSettings
from tomopolish.settings.wording import ARGUMENTS, in_python

if TYPE_CHECKING:
    from tomopolish.settings.cluster import ClusterSettings

AnyPath = str | Path

WITH_PROVENANCE = ("align", "polish", "tune", "reconstruct", "export", "select", "simulate")
"""Functions that write ``run.yaml`` into their output folder."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class KeywordError(InputError, TypeError):
    """A function has no keyword of that name; the text names the nearest that it has."""


class PartOptions(TypedDict, total=False):
    """Files that count instead of those that an optimisation set names; see `InputPaths`."""

    particles: AnyPath | None
    tomograms: AnyPath | None
    trajectories: AnyPath | None
    half_map1: AnyPath | None
    half_map2: AnyPath | None
    mask: AnyPath | None
    fsc: AnyPath | None
    relion_version: int | None


class TiltOptions(TypedDict, total=False):
    """Tilt images that are left out; see `TiltSelection`."""

    exclude_tilts: Mapping[str, Sequence[int]]
    max_tilt_angle_degrees: float | None
    max_dose: float | None


class WindowOptions(TypedDict, total=False):
    """Fields of `WindowSettings`."""

    range_penalty: float
    padding: float
    min_frame: int
    max_frame: int | None


class WeightOptions(TypedDict, total=False):
    """Fields of `WeightSettings`."""

    freq_cutoff_angstrom: float | None
    fsc_thresh_width: float
    use_snr_weight: bool
    per_frame_noise: bool
    whiten: bool
    whiten_abs: bool
    hp_sigma: float | None
    srp: float
    cutoff_fraction: float


class FitOptions(TypedDict, total=False):
    """Fields of `FitSettings`."""

    const_positions: bool
    const_angles: bool
    const_shifts: bool
    shift_only: bool
    shift_only_by_particles: bool
    reference_scale: float | None
    held_out_fraction: float | None
    max_iterations: int | None
    outliers: bool


class JointOptions(TypedDict, total=False):
    """Fields of `JointSettings`; `joint` sets the usual ones."""

    joint: bool
    orientations: bool
    defocus: bool
    astigmatism: bool
    phase_shift: bool
    tilt_scale: bool
    tilt_bfactor: bool


class FolderOptions(TypedDict, total=False):
    """Fields of `RunSettings` that each long computation has."""

    device: str
    overwrite: bool
    strict: bool


class AlignOptions(
    TiltOptions, WindowOptions, WeightOptions, FitOptions, JointOptions, FolderOptions, total=False
):
    """Keywords of `align`: tilt images, windows, weights, fit, models, and the rest of `RunSettings`."""

    motion: MotionSettings | Literal["auto"] | None
    deformation: DeformationSettings | None
    only: Sequence[str]
    only_do_unfinished: bool
    diagnostics: bool
    evaluate: bool
    report: bool
    pipeline_folder: AnyPath | None
    cluster: ClusterSettings | None


class PolishOptions(TiltOptions, WindowOptions, WeightOptions, JointOptions, FolderOptions, total=False):
    """Keywords of `polish`: most of those of `align`, and the rounds' own."""

    const_positions: bool
    const_angles: bool
    const_shifts: bool
    reference_scale: float | None
    held_out_fraction: float | None
    max_iterations: int | None
    outliers: bool
    motion: MotionSettings | Literal["auto"] | None
    deformation: DeformationSettings | None
    only_do_unfinished: bool
    report: bool
    pipeline_folder: AnyPath | None
    cluster: ClusterSettings | None
    max_rounds: int
    crop_px: int | None
    initial_resolution_angstrom: float | None
    own_references: bool


class TuneOptions(TiltOptions, WindowOptions, WeightOptions, FolderOptions, total=False):
    """Keywords of `tune`."""

    tomograms: int
    max_particles: int
    distance_scale: float | None
    squared_exponential: bool | None
    absolute: bool
    reference_scale: float | None


class ReconstructOptions(TiltOptions, total=False):
    """Keywords of `reconstruct`."""

    overwrite: bool


class SelectOptions(TypedDict, total=False):
    """Keywords of `select`."""

    overwrite: bool


def public(options: Any = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function public: its keywords are checked, and its errors name arguments.

    Parameters
    ----------
    options
        The TypedDict of its further keywords.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
        known += [] if options is None else sorted(options.__optional_keys__)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            from tomopolish.run.journal.recording import Recording, recording

            for name in kwargs:
                if name not in known:
                    raise KeywordError(_unknown(function.__name__, name, known))
            try:
                check_address_space()
                stated = {**dict(zip(known, args, strict=False)), **kwargs}
                begun = Recording(
                    command=function.__name__,
                    command_line=(),
                    options=stated,
                    from_python=True,
                    writes_provenance=function.__name__ in WITH_PROVENANCE,
                )
                with recording(begun):
                    return function(*args, **kwargs)
            except TomopolishError as problem:
                problem.args = (in_python(str(problem)),)
                raise

        return call

    return decorate


def _unknown(function: str, name: str, known: Sequence[str]) -> str:
    meant = ARGUMENTS.get(name, "").partition("=")[0]  # the command's name of an option
    nearest = [meant] if meant in known else get_close_matches(name, known, n=1, cutoff=0.5)
    answer = f"did you mean {nearest[0]!r}?" if nearest else f"help({function}) lists its keywords"
    return f"{function}() has no keyword {name!r}: {answer}"


_KINDS: Mapping[str, tuple[Any, str]] = {
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "bool": (bool, "True or False"),
    "str": (str, "a text"),
}


def settings_of(settings: Callable[..., S], values: Mapping[str, Any]) -> S:
    """Return settings with those of the values that are their fields; raises InputError for other types."""
    stated = {f.name: str(f.type) for f in fields(settings) if f.name in values}  # type: ignore[arg-type]
    return settings(**{name: checked(name, values[name], kind) for name, kind in stated.items()})


def checked(name: str, value: Any, kind: str) -> Any:
    """Return a value of an argument as a plain Python one.

    Parameters
    ----------
    kind
        Its annotation: `int`, `float`, `bool` or `str`, perhaps with `None`; values of others pass unchecked.

    Raises
    ------
    InputError
        When it is of another kind, or a number that is not finite.
    """
    plain, _, _ = kind.partition(" | None")
    if plain not in _KINDS or (value is None and plain != kind):
        return value
    value = value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
    expected, words = _KINDS[plain]
    if not isinstance(value, expected) or (isinstance(value, bool) and plain != "bool"):
        raise InputError(f"{name}={value!r} must be {words}")
    if plain == "float" and not math.isfinite(value):
        raise InputError(f"{name}={value!r} must be a finite number")
    return float(value) if plain == "float" else value  # so that settings equal those of the command line


def threads_here(threads: int) -> int:
    """Return how many of so many threads fit into a limited address space."""
    count = checked("threads", threads, "int")
    return threads_that_fit(count) if count > 0 else count  # settings refuse the latter
