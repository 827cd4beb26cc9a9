"""References, made ready once for all tomograms."""

from __future__ import annotations

from dataclasses import dataclass

from tomopolish.correlation.reference import ReferenceTransform, crop_transforms, prepare_half_maps
from tomopolish.correlation.weights import ReferenceWeight, reference_weight
from tomopolish.dataset.model import References
from tomopolish.settings import AlignSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedReferences:
    """References ready to be compared with images."""

    transform: ReferenceTransform
    weight: ReferenceWeight

    @property
    def box_px(self) -> int:
        """Edge of the boxes that are cut from the images."""
        return self.transform.box


def prepare(references: References, settings: AlignSettings) -> PreparedReferences:
    """Transform the half maps and find the frequencies that count."""
    transforms = prepare_half_maps(references, settings.windows.box_px)
    weight = reference_weight(references, transforms, settings.weights)
    return PreparedReferences(transform=crop_transforms(transforms, weight.last_frequency), weight=weight)
