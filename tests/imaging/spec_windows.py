"""Correlation windows straight from their definition, in double precision: slow, and free of shortcuts.

Shares no code with the program. Full planes throughout, frequencies by `fftfreq`; every factor is a function
of frequency that can be read against docs/dev/conventions.md.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from tomopolish.dataset.model import OpticsGroup, Particles, References, TiltSeries
from tomopolish.settings.alignment import WeightSettings

ZERNIKE_EVEN = [
    lambda x, y: 1 + 0 * x,
    lambda x, y: 2 * x * y,
    lambda x, y: 2 * (x**2 + y**2) - 1,
    lambda x, y: x**2 - y**2,
]
ZERNIKE_ODD = [
    lambda x, y: y,
    lambda x, y: x,
    lambda x, y: 3 * x**2 * y - y**3,
    lambda x, y: (3 * (x**2 + y**2) - 2) * y,
]


def raised_cosine(r: np.ndarray, inner: float, outer: float) -> np.ndarray:
    """1 inside `inner`, 0 outside `outer`."""
    if inner == outer:
        return np.where(r <= inner, 1.0, 0.0)
    t = np.clip((r - inner) / (outer - inner), 0, 1)
    return np.where(t == 1, 0.0, (1 + np.cos(np.pi * t)) / 2)


def full_plane(box: int) -> tuple[np.ndarray, np.ndarray]:
    """(kx, ky) of every pixel of the full plane, Fourier px."""
    k = np.fft.fftfreq(box, 1 / box)
    kx, ky = np.meshgrid(k, k)
    return kx, ky


def reference_transform(references: References, half: int, box: int) -> np.ndarray:
    """Centred cube of the prepared map's unitary transform; index i holds frequency i − s/2.

    See docs/dev/conventions.md, References and weights.
    """
    volume = references.half_maps[half].astype(np.float64)
    if references.mask is not None:
        volume = volume * references.mask
    size = len(volume)
    grown = np.zeros((box, box, box))
    for z in range(size):
        grown[z - size // 2 + box // 2, box // 2 - size // 2 :, box // 2 - size // 2 :][:size, :size] = (
            volume[z]
        )
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    r = np.sqrt(x**2.0 + y**2 + z**2)
    t = raised_cosine(r, box / 2 - 10, box / 2)
    grown = (grown - (t * grown).sum() / t.sum()) * t
    u = np.pi * r / box
    sinc = np.where(u > 0, np.sin(u) / np.where(u > 0, u, 1), 1.0)
    grown = grown / (sinc**2 + 0.02)
    spectrum = np.fft.fftshift(np.fft.fftn(grown)) / box**1.5
    # phase origin at voxel ⌊s/2⌋
    return spectrum * np.exp(2j * np.pi * (x + y + z) * (box // 2) / box)


def reference_weight(references: References, box: int, settings: WeightSettings) -> np.ndarray:
    """Weight of the references' resolution on the full plane.

    See docs/dev/conventions.md, References and weights.
    """
    kx, ky = full_plane(box)
    r = np.hypot(kx, ky)
    shells = np.arange(box // 2 + 1)
    if references.fsc is not None:
        scale = box / references.fsc_box
        below = [i for i, v in enumerate(references.fsc) if v < 0.143]
        last = np.floor(((below[0] if below else len(references.fsc)) - 1) * scale)
        fsc = np.interp(shells / scale, np.arange(len(references.fsc)), references.fsc)
        quality = 2 * fsc / (1 + fsc)
    else:
        one, two = (reference_transform(references, h, box) for h in (0, 1))
        axis = np.arange(box) - box // 2
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        stored = x >= 0  # half space, and the plane that has no mirror image in it
        stored |= x == -(box // 2)
        shell = np.round(np.sqrt(x**2.0 + y**2 + z**2))
        quality = np.array(
            [
                1 - np.sum(np.abs(one - two)[on] ** 2) / np.sum((np.abs(one) ** 2 + np.abs(two) ** 2)[on])
                for on in (stored & (shell == i) for i in shells)
            ]
        )
        below = np.flatnonzero(quality < 0.05)
        last = (below[0] if len(below) else len(quality)) - 1
    if settings.freq_cutoff_angstrom is not None:
        last = min(last, np.floor(box * references.pixel_size_angstrom / settings.freq_cutoff_angstrom))
    weight = raised_cosine(r, last, last + settings.fsc_thresh_width)
    if settings.use_snr_weight:
        weight = weight * np.maximum(np.interp(r, shells, quality), 0)
    return weight


def mean_periodogram(image: np.ndarray, box: int) -> np.ndarray:
    """Radial average of the mean periodogram of all whole tiles at multiples of ⌊s/2⌋.

    See docs/dev/conventions.md, References and weights.
    """
    height, width = image.shape
    planes = [
        np.abs(np.fft.rfft2(image[y : y + box, x : x + box].astype(np.float64)) / box) ** 2
        for y in range(0, height - box + 1, box // 2)
        for x in range(0, width - box + 1, box // 2)
    ]
    power = np.mean(planes, axis=0)
    ky, kx = np.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1)
    r = np.hypot(ky[:, None], kx[None, :])
    shells = np.empty(box // 2 + 1)
    for i in range(len(shells)):
        share = np.clip(1 - np.abs(r - i), 0, None)
        shells[i] = (share * power).sum() / share.sum()
    return shells


def frequency_weights(
    series: TiltSeries, references: References, box: int, settings: WeightSettings
) -> np.ndarray:
    """Frequency weight of every tilt image on the full plane.

    See docs/dev/conventions.md, References and weights.
    """
    kx, ky = full_plane(box)
    r = np.hypot(kx, ky)
    weight = reference_weight(references, box, settings)
    if settings.srp:
        weight = weight * (r / (box // 2)) ** settings.srp
    if settings.hp_sigma is not None:
        weight = weight * (1 - np.exp(-(r**2) / (2 * settings.hp_sigma**2)))
    if not settings.whiten:
        return np.repeat(weight[None], len(series), axis=0)
    shells = np.arange(box // 2 + 1)
    # Power is inverted shell by shell, and the inverse interpolated; averages over tilt images are
    # harmonic means of the interpolated planes.
    white = np.stack(
        [np.interp(r, shells, 1 / mean_periodogram(series.images.read(f), box)) for f in range(len(series))]
    )
    if not settings.per_frame_noise:
        white[:] = 1 / np.mean(1 / white, axis=0)
    return weight * (np.sqrt(white) if settings.whiten_abs else white)


def dose_weight(series: TiltSeries, tilt: int, k: np.ndarray) -> np.ndarray:
    dose, b = series.pre_exposure[tilt], series.bfactor_per_dose[tilt]
    if b > 0:
        return np.exp(-b * dose * k**2 / 4)
    k = np.maximum(k, 1e-12)
    return np.exp(-dose / 2 / (0.245 * k**-1.665 + 2.81))


def in_use(weight: np.ndarray, dose: np.ndarray, cutoff: float) -> np.ndarray:
    """Frequencies that are used, full plane (docs/dev/conventions.md, References and weights)."""
    box = len(weight)
    k = np.fft.fftfreq(box, 1 / box).astype(int)
    half = weight[:, : box // 2 + 1]  # kx = 0 … s/2; the last column is that of −s/2
    used = np.zeros((box, box), dtype=bool)
    for row in range(box):
        last = -1
        for kx in range(box // 2 + 1):
            inside = np.hypot(kx, k[row]) <= box / 2
            if inside and dose[row, kx] > cutoff and half[row, kx] > cutoff * half.mean():
                last = kx
        for kx in range(last + 1):
            used[row, kx] = used[-row, -kx] = True
    used[0, 0] = False
    return used


def ctf(
    series: TiltSeries, tilt: int, group: OpticsGroup, kx: np.ndarray, ky: np.ndarray, depth_px: float
) -> np.ndarray:
    """CTF of one particle at frequencies in 1/Å (docs/dev/conventions.md, Optics)."""
    scope, c = series.microscope, series.ctf
    volt = 1e3 * scope.voltage_kv
    wavelength = 12.2643247 / np.sqrt(volt * (1 + 0.978466e-6 * volt))
    k = np.hypot(kx, ky)
    away = np.arctan2(ky, kx) - np.deg2rad(c.defocus_angle_degrees[tilt])
    more = series.hand * series.pixel_size_angstrom * series.defocus_slope * depth_px
    defocus = (c.defocus_u_angstrom[tilt] + more) * np.cos(away) ** 2
    defocus = defocus + (c.defocus_v_angstrom[tilt] + more) * np.sin(away) ** 2
    gamma = -np.pi * wavelength * defocus * k**2
    gamma = gamma + np.pi / 2 * scope.spherical_aberration_mm * 1e7 * wavelength**3 * k**4
    gamma = gamma - np.deg2rad(c.phase_shift_degrees[tilt])
    gamma = gamma - np.arctan(scope.amplitude_contrast / np.sqrt(1 - scope.amplitude_contrast**2))
    gamma = gamma + sum(a * z(kx, ky) for a, z in zip(group.even_zernike, ZERNIKE_EVEN, strict=False))
    return -np.sin(gamma) * c.scale[tilt] * np.exp(-c.bfactor_angstrom2[tilt] * k**2 / 4)


def position_2d(series: TiltSeries, particles: Particles, tilt: int, p: int) -> np.ndarray:
    point = particles.positions_px[p]
    if particles.trajectories_px is not None:
        point = point + particles.trajectories_px[p, tilt]
    return (series.projections_px[tilt] @ [*point, 1.0])[:2]


def prediction(
    series: TiltSeries, particles: Particles, spectrum: np.ndarray, tilt: int, p: int
) -> np.ndarray:
    """S(k) = slice × CTF × aberration × dose weight on the full plane, without the contrast's sign."""
    box = len(spectrum)
    kx, ky = full_plane(box)
    M = series.projections_px[tilt]
    V = M[:3, :3] @ particles.rotations[p]
    k3 = np.einsum("ji,jyx->iyx", V, np.stack([kx, ky, 0 * kx]))
    where = (k3 + box // 2)[::-1]
    # trilinear; one more plane for frequency +s/2, which is that of −s/2
    cube = np.pad(spectrum, (0, 1), mode="wrap")
    image = map_coordinates(cube.real, where, order=1, mode="nearest") + 1j * map_coordinates(
        cube.imag, where, order=1, mode="nearest"
    )
    unit = 1 / (box * series.pixel_size_angstrom)
    group = particles.optics_groups[particles.optics_group[p]]
    centre = np.array([n / 2 for n in series.tomogram_size_px])
    depth = (M @ [*particles.positions_px[p], 1.0])[2] - (M @ [*centre, 1.0])[2]
    odd = sum(a * z(kx * unit, ky * unit) for a, z in zip(group.odd_zernike, ZERNIKE_ODD, strict=False))
    dose = dose_weight(series, tilt, np.hypot(kx, ky) * unit)
    return image * ctf(series, tilt, group, kx * unit, ky * unit, depth) * np.exp(1j * odd) * dose


def cut_box(image: np.ndarray, q: np.ndarray, box: int) -> tuple[np.ndarray, np.ndarray]:
    """Box around round(q), mean of the outside removed, soft edge; and the position of its first pixel."""
    first = np.floor(q + 0.5).astype(int) - box // 2
    rows = np.clip(np.arange(first[1], first[1] + box), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(first[0], first[0] + box), 0, image.shape[1] - 1)
    cut = image[np.ix_(rows, columns)].astype(np.float64)
    axis = np.arange(box) - box // 2
    r = np.hypot(axis[:, None], axis[None, :])
    cut = (cut - cut[r > box / 2].mean()) * raised_cosine(r, box / 2 - 5, box / 2)
    return cut, first


def window(
    series: TiltSeries,
    particles: Particles,
    spectra: list[np.ndarray],
    weight: np.ndarray,
    pair: tuple[int, int],
    displacements_px: np.ndarray,
    settings: WeightSettings,
) -> tuple[np.ndarray, float]:
    """cc(δ) of one pair, `[δy, δx]`, and Σ w |S|²; `weight` is that of its tilt image.

    See docs/dev/conventions.md, Correlation windows.
    """
    tilt, p = pair
    box = len(weight)
    kx, ky = full_plane(box)
    unit = 1 / (box * series.pixel_size_angstrom)
    dose = dose_weight(series, tilt, np.hypot(kx, ky) * unit)
    w = np.where(in_use(weight, dose, settings.cutoff_fraction), weight, 0)
    q = position_2d(series, particles, tilt, p)
    cut, first = cut_box(series.images.read(tilt), q, box)
    observed = np.fft.fft2(cut) / box
    observed = observed * np.exp(2j * np.pi * (kx * (q - first)[0] + ky * (q - first)[1]) / box)
    predicted = prediction(series, particles, spectra[particles.half_set[p]], tilt, p)
    product = w * observed * np.conj(predicted)
    k = np.fft.fftfreq(box, 1 / box)
    turns = np.exp(2j * np.pi * np.outer(displacements_px, k) / box)
    return -np.real(turns @ product @ turns.T), float(np.sum(w * np.abs(predicted) ** 2))
