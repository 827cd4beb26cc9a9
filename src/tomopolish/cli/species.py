"""`--i` and `--b` of `align` and `polish`: one optimisation set, several, or a YAML file that lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from tomopolish.cli.yaml_files import read_yaml
from tomopolish.errors import InputError
from tomopolish.settings.inputs import SpeciesPaths, species_name

YAML = (".yaml", ".yml")
_KEYS = ("name", "optimisation_set", "box", "sym")


def species_from(inputs: Sequence[Path], boxes_px: Sequence[int]) -> tuple[SpeciesPaths, ...]:
    """Return the species that the options name; none where there is one optimisation set, or only its parts.

    Raises InputError when boxes and species do not correspond, or a YAML file is malformed.
    """
    if any(path.suffix.lower() in YAML for path in inputs):
        if len(inputs) > 1:
            raise InputError("a YAML file lists all species: give --i only once")
        return _from_yaml(inputs[0], boxes_px)
    count = max(1, len(inputs))
    if len(boxes_px) not in (1, count):
        times = "once" if count == 1 else f"once, or once for each of the {count} species"
        raise InputError(f"--b is given {len(boxes_px)} times: give it {times}")
    if count == 1:
        return ()
    boxes = list(boxes_px) * (count // len(boxes_px))
    return tuple(
        SpeciesPaths(name=species_name(path), optimisation_set=path, box_px=box)
        for path, box in zip(inputs, boxes, strict=True)
    )


def _from_yaml(path: Path, boxes_px: Sequence[int]) -> tuple[SpeciesPaths, ...]:
    if len(boxes_px) > 1:
        raise InputError(
            f"--b is given {len(boxes_px)} times: with {path}, give one for all, or box in the file"
        )
    content = read_yaml(path, str(path))
    items = content.get("species") if isinstance(content, Mapping) else None
    if not isinstance(items, list) or not items:
        raise InputError(f"{path}: there is no list 'species'; add it, with {', '.join(_KEYS)} in each item")
    default = boxes_px[0] if boxes_px else None
    return tuple(_species(f"{path}, item {n} of species", item, default) for n, item in enumerate(items, 1))


def _species(place: str, item: Any, default_box: int | None) -> SpeciesPaths:
    if not isinstance(item, Mapping):
        raise InputError(f"{place}: this is not a table; give {', '.join(_KEYS)}")
    unknown = [str(key) for key in item if key not in _KEYS]
    if unknown:
        raise InputError(f"{place}: {brief(unknown[0])} is unknown; give {', '.join(_KEYS)}")
    file, box = item.get("optimisation_set"), item.get("box", default_box)
    if not isinstance(file, str) or not file:
        raise InputError(
            f"{place}: optimisation_set is missing; add the path of the species' optimisation set"
        )
    if box is None:
        raise InputError(f"{place}: box is missing; add it, or give one value for all with --b")
    if isinstance(box, bool) or not isinstance(box, int):
        raise InputError(f"{place}: box is {brief(box)}, but must be a whole number of pixels")
    symmetry = item.get("sym")
    if symmetry is not None and not isinstance(symmetry, str):
        raise InputError(f"{place}: sym is {brief(symmetry)}, but must be a point group, such as C1 or D7")
    name = item.get("name", species_name(Path(file)))
    return SpeciesPaths(name=str(name), optimisation_set=Path(file), box_px=box, symmetry=symmetry)
