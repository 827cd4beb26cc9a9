"""Acquisition: tilt angles, order of exposure, and optics of each image."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import OpticsGroup
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.settings.simulation import AcquisitionSettings
from tomopolish.shapes import Array, Float, Int


def tilt_angles_degrees(settings: AcquisitionSettings) -> Float[Array, "F"]:
    """Return the nominal tilt angles in ascending order, symmetric about zero."""
    steps = int(np.floor(settings.tilt_range_degrees / settings.tilt_step_degrees + 1e-9))
    return np.arange(-steps, steps + 1) * settings.tilt_step_degrees


def exposure_order(tilts: int, scheme: str) -> Int[Array, "F"]:
    """Return the ascending-angle index of the m-th exposed image (`AcquisitionSettings.dose_scheme`)."""
    middle = tilts // 2
    if scheme == "continuous":
        return np.arange(tilts)
    if scheme == "bidirectional":
        return np.concatenate([np.arange(middle, tilts), np.arange(middle)[::-1]])
    order, step, sign = [middle], 1, 1
    while len(order) < tilts:  # +1, −1; then −2, +2; then +3, −3; …
        order += [middle + sign * step, middle - sign * step]
        step, sign = step + 1, -sign
    return np.asarray(order)


def file_rows(settings: AcquisitionSettings, rng: np.random.Generator) -> Int[Array, "F"]:
    """Return the index into ascending angles of each row of the files."""
    tilts = len(tilt_angles_degrees(settings))
    if settings.file_order == "exposure":
        return exposure_order(tilts, settings.dose_scheme)
    return rng.permutation(tilts) if settings.file_order == "shuffled" else np.arange(tilts)


def pre_exposures(settings: AcquisitionSettings) -> Float[Array, "F"]:
    """Return the dose before each image, e⁻/Å², in ascending order of angles."""
    order = exposure_order(len(tilt_angles_degrees(settings)), settings.dose_scheme)
    doses = np.empty(len(order))
    steps = np.arange(len(order))
    doses[order] = steps * settings.frame_dose
    if settings.first_dose is not None:
        doses[order[1:]] += settings.first_dose - settings.frame_dose
    return doses


def microscope(settings: AcquisitionSettings) -> Microscope:
    """Return the microscope's constants."""
    return Microscope(
        voltage_kv=settings.voltage_kv,
        spherical_aberration_mm=settings.spherical_aberration_mm,
        amplitude_contrast=settings.amplitude_contrast,
    )


def tilt_ctf(
    settings: AcquisitionSettings, angles_degrees: Float[Array, "F"], defocus_change: Float[Array, "F"]
) -> TiltCtf:
    """Return the contrast transfer of tilt images at these angles, with a change of their defocus, Å."""
    mean = settings.defocus_angstrom + defocus_change
    count = len(angles_degrees)
    scale = np.cos(np.deg2rad(angles_degrees)) if settings.scale_follows_tilt else np.ones(count)
    return TiltCtf(
        defocus_u_angstrom=mean + settings.astigmatism_angstrom / 2,
        defocus_v_angstrom=mean - settings.astigmatism_angstrom / 2,
        defocus_angle_degrees=np.full(count, settings.astigmatism_degrees),
        phase_shift_degrees=np.full(count, settings.phase_shift_degrees),
        bfactor_angstrom2=np.full(count, settings.bfactor_angstrom2),
        scale=scale,
    )


def inelastic_amplitude(
    settings: AcquisitionSettings, angles_degrees: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the signal that remains after the longer way through a tilted specimen, relative to no tilt."""
    way = 1 / np.cos(np.deg2rad(angles_degrees))
    return np.asarray(np.exp(-settings.inelastic_loss * (way - 1)))


def optics_groups(settings: AcquisitionSettings) -> tuple[OpticsGroup, ...]:
    """Return the particles' optics groups, of which only the first has aberrations."""
    return tuple(
        OpticsGroup(
            name=f"opticsGroup{i + 1}",
            even_zernike=settings.even_zernike if i == 0 else (),
            odd_zernike=settings.odd_zernike if i == 0 else (),
        )
        for i in range(settings.optics_groups)
    )
