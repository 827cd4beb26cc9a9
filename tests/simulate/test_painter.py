"""Noise-free images against the formulas of docs/dev/conventions.md, written out here a second time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulation_cases import half_plane_multiplicity, spectrum_alone, varied

from tomopolish.dataset.model import OpticsGroup, Particles, TiltSeries
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.simulate import painter as painters
from tomopolish.simulate import slices
from tomopolish.simulate.molecule import synthesise_molecule
from tomopolish.simulate.painter import TiltPainter
from tomopolish.simulate.parts import SimulationSettings, build_structure, simulate_tomogram
from tomopolish.simulate.slices import slice_volume
from tomopolish.simulate.tomogram import ImageStack

MAP = 32


def _plain_microscope() -> Microscope:
    """Pure amplitude contrast in focus: the CTF is 1."""
    return Microscope(voltage_kv=300.0, spherical_aberration_mm=0.0, amplitude_contrast=1.0)


def _scene(
    positions_2d: np.ndarray, size: tuple[int, int], microscope: Microscope, **ctf: float
) -> TiltPainter:
    """One tilt image at zero tilt with unrotated particles at these 2D positions."""
    count = len(positions_2d)
    values = {
        "defocus_u_angstrom": 0.0,
        "defocus_v_angstrom": 0.0,
        "defocus_angle_degrees": 0.0,
        "phase_shift_degrees": 0.0,
        "bfactor_angstrom2": 0.0,
        "scale": 1.0,
    } | ctf
    series = TiltSeries(
        name="TS",
        projections_px=np.eye(4)[None],
        tomogram_size_px=(*size, 100),
        pixel_size_angstrom=4.0,
        hand=-1.0,
        defocus_slope=1.0,
        microscope=microscope,
        ctf=TiltCtf(**{name: np.array([value]) for name, value in values.items()}),
        pre_exposure=np.zeros(1),
        bfactor_per_dose=np.zeros(1),
        fractional_dose=None,
        images=ImageStack(stack=np.zeros((1, size[1], size[0]), dtype=np.float32)),
    )
    group = OpticsGroup(name="a")
    particles = Particles(
        rows=np.arange(count),
        names=tuple("abcdefgh"[:count]),
        positions_px=np.column_stack([positions_2d, np.full(count, 50.0)]),
        rotations=np.broadcast_to(np.eye(3), (count, 3, 3)).copy(),
        half_set=np.zeros(count, dtype=np.int64),
        optics_group=np.zeros(count, dtype=np.int64),
        optics_groups=(group,),
    )
    density = synthesise_molecule(seed=1, diameter_px=18.0, blobs=80, blob_sigma_px=1.2).density_map(MAP)
    return TiltPainter(
        volume=slice_volume(density, MAP**-0.5),
        series=series,
        particles=particles,
        positions_2d_px=positions_2d[None],
    )


def test_image_is_minus_the_sum_along_the_beam_over_the_root_of_the_box() -> None:
    painter = _scene(np.array([[40.0, 30.0]]), (81, 71), _plain_microscope())
    density = synthesise_molecule(seed=1, diameter_px=18.0, blobs=80, blob_sigma_px=1.2).density_map(MAP)
    expected = np.zeros((71, 81))
    half = MAP // 2
    expected[30 - half : 30 + half, 40 - half : 40 + half] = -density.sum(axis=0) / np.sqrt(MAP)
    np.testing.assert_allclose(painter.paint(0), expected, atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("place", [(40.0, 33.0), (40.25, 33.5), (39.51, 32.9), (41.499, 33.501)])
def test_particle_appears_at_its_exact_place(place: tuple[float, float]) -> None:
    image = _scene(np.array([place]), (81, 71), _plain_microscope()).paint(0).astype(np.float64)
    y, x = np.indices(image.shape)
    weight = np.where(np.hypot(x - place[0], y - place[1]) < 18, image, 0)
    centroid = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    # The molecule's centre of mass is its origin.
    np.testing.assert_allclose(centroid, place, atol=0.01)


def test_particles_at_and_beyond_the_border_are_cut_off_there() -> None:
    inner = np.array([[5.3, 30.2], [60.7, 3.1], [-10.0, 40.0], [78.9, 68.4], [200.0, 30.0]])
    margin = 60
    whole = _scene(inner + margin, (81 + 2 * margin, 71 + 2 * margin), _plain_microscope()).paint(0)
    cut = _scene(inner, (81, 71), _plain_microscope()).paint(0)
    # Frequencies end at Nyquist, so that a molecule's image has faint tails, which a smaller canvas wraps.
    np.testing.assert_allclose(cut, whole[margin:-margin, margin:-margin], atol=1e-3 * np.abs(whole).max())
    assert np.abs(cut[:, :5]).max() > 0.1 * np.abs(cut).max()


@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_spectrum_follows_the_formulas(small: SimulationSettings, hand: float) -> None:
    settings = varied(
        small,
        "acquisition",
        hand=hand,
        defocus_slope=0.8,
        phase_shift_degrees=12.0,
        bfactor_angstrom2=30.0,
        scale_follows_tilt=True,
        even_zernike=(0.05, 0.6, -40.0, 3.0),
        odd_zernike=(1.4, -0.3, 20.0),
        optics_groups=2,
    )
    tomogram = simulate_tomogram(settings)
    painter, truth, acquisition = tomogram.images.painter, tomogram.truth, settings.acquisition
    molecule = synthesise_molecule(
        seed=settings.molecule.seed,
        diameter_px=settings.molecule.diameter_fraction * settings.molecule.box_px,
        blobs=settings.molecule.blobs,
    )
    box, pixel = 3 * settings.molecule.box_px, acquisition.pixel_size_angstrom
    ky, kx = np.meshgrid(np.fft.fftfreq(box), np.fft.rfftfreq(box), indexing="ij")
    used = (np.hypot(kx, ky) < 0.4) & (np.hypot(kx, ky) > 0)
    volt = acquisition.voltage_kv * 1e3
    wavelength = 12.2643247 / np.sqrt(volt * (1 + 0.978466e-6 * volt))
    for tilt, particle in [(0, 0), (3, 1), (10, 4)]:
        P = truth.projections_px[tilt]
        view = P[:3, :3] @ truth.rotations[particle]
        structure = molecule.transform(kx[..., None] * view[0] + ky[..., None] * view[1])
        gx, gy = kx / pixel, ky / pixel
        g2 = gx**2 + gy**2
        centre = np.array([101.5, 87.5, 75.5])  # half of an odd size, not floored
        depth = P[2, :3] @ (truth.positions_px[particle] - centre)
        ctf = tomogram.series.ctf
        angle = np.deg2rad(ctf.defocus_angle_degrees[tilt])
        along = gx * np.cos(angle) + gy * np.sin(angle)
        across = -gx * np.sin(angle) + gy * np.cos(angle)
        defocus_k2 = (
            ctf.defocus_u_angstrom[tilt] * along**2
            + ctf.defocus_v_angstrom[tilt] * across**2
            + hand * pixel * 0.8 * depth * g2
        )
        gamma = -np.pi * wavelength * defocus_k2
        gamma += 0.5 * np.pi * acquisition.spherical_aberration_mm * 1e7 * wavelength**3 * g2**2
        gamma -= np.deg2rad(12.0) + np.arctan(0.1 / np.sqrt(1 - 0.01))
        odd = 0.0
        if particle % 2 == 0:  # the first optics group has the aberrations
            rho, phi = np.sqrt(g2), np.arctan2(gy, gx)
            gamma += 0.05 + 0.6 * rho**2 * np.sin(2 * phi)
            gamma += -40.0 * (2 * rho**2 - 1) + 3.0 * rho**2 * np.cos(2 * phi)
            odd = 1.4 * rho * np.sin(phi) - 0.3 * rho * np.cos(phi) + 20.0 * rho**3 * np.sin(3 * phi)
        damping = np.cos(np.deg2rad(tomogram.angles_degrees[tilt])) * np.exp(-30.0 * g2 / 4)
        with np.errstate(divide="ignore"):
            damping = damping * np.exp(
                -0.5 * truth.pre_exposure[tilt] / (0.245 * np.sqrt(g2) ** -1.665 + 2.81)
            )
        where = truth.positions_2d_px[particle, tilt]
        offset = where - np.floor(where + 0.5) + box // 2
        shift = np.exp(-2j * np.pi * (kx * offset[0] + ky * offset[1]))
        expected = structure * -np.sin(gamma) * damping * np.exp(1j * odd) * shift
        found = spectrum_alone(painter, tilt, particle, box)
        # The map was scaled for the signal-to-noise ratio, by one factor for all.
        scale = np.real(np.vdot(expected[used], found[used]) / np.vdot(expected[used], expected[used]))
        assert np.linalg.norm(found[used] - scale * expected[used]) < 0.01 * np.linalg.norm(found[used])
        assert scale > 0


def test_hand_says_whether_higher_particles_have_more_defocus() -> None:
    painter = _scene(np.array([[40.0, 30.0]]), (81, 71), _plain_microscope())
    lifted = replace(painter.particles, positions_px=np.array([[40.0, 30.0, 60.0]]))
    # 10 px above the centre of a tomogram 100 px deep, 4 Å/px.
    assert replace(painter, particles=lifted).extra_defocus_angstrom(0) == pytest.approx(-40.0)
    other_hand = replace(painter.series, hand=1.0, defocus_slope=0.5)
    assert replace(painter, particles=lifted, series=other_hand).extra_defocus_angstrom(0) == pytest.approx(
        20.0
    )


@pytest.mark.parametrize("loss", [0.0, 0.8])
def test_signal_to_noise_ratio_is_the_one_asked_for(small: SimulationSettings, loss: float) -> None:
    settings = varied(varied(small, "noise", pair_snr=7.0), "specimen", particles=12, min_distance_px=20.0)
    settings = varied(settings, "acquisition", inelastic_loss=loss)
    tomogram = simulate_tomogram(settings)
    painter = tomogram.images.painter
    box = 2 * settings.molecule.box_px
    k = np.hypot(np.fft.fftfreq(box)[:, None], np.fft.rfftfreq(box)[None, :])
    weight = half_plane_multiplicity(box) * ((k > 0) & (k <= 1 / settings.molecule.resolution_px))
    ratios = []
    for tilt in range(len(tomogram.series)):
        for particle in range(len(painter.particles)):
            S = spectrum_alone(painter, tilt, particle, box) / box  # unitary
            ratios.append(np.sum(weight * np.abs(S) ** 2))  # the noise power is 1
    assert np.mean(ratios) == pytest.approx(7.0, rel=0.15)


def test_correlation_peak_has_the_height_and_scatter_that_the_ratio_promises(
    small: SimulationSettings,
) -> None:
    settings = varied(
        varied(small, "noise", pair_snr=20.0, sigma=3.0), "specimen", particles=10, edge_margin_px=60.0
    )
    tomogram = simulate_tomogram(settings)
    painter, box = tomogram.images.painter, 2 * settings.molecule.box_px
    k = np.hypot(np.fft.fftfreq(box)[:, None], np.fft.rfftfreq(box)[None, :])
    weight = half_plane_multiplicity(box) * ((k > 0) & (k <= 1 / settings.molecule.resolution_px)) / 3.0**2
    peaks, powers = [], []
    for tilt in range(len(tomogram.series)):
        image = tomogram.images.read(tilt)
        for particle in range(len(painter.particles)):
            x, y = np.floor(painter.positions_2d_px[tilt, particle] + 0.5).astype(int) - box // 2
            if x < 0 or y < 0 or x + box > image.shape[1] or y + box > image.shape[0]:
                continue
            observed = np.fft.rfft2(image[y : y + box, x : x + box], norm="ortho")
            S = spectrum_alone(painter, tilt, particle, box) / box
            peaks.append(-np.sum(weight * (observed * np.conj(S)).real))
            powers.append(np.sum(weight * np.abs(S) ** 2))
    assert len(peaks) > 50
    standardised = (np.array(peaks) - powers) / np.sqrt(powers)
    assert abs(standardised.mean()) < 0.6  # neighbours overlap a little
    assert 0.75 < standardised.std() < 1.4


def test_inelastic_loss_is_in_the_images_but_not_in_the_files(small: SimulationSettings) -> None:
    settings = varied(small, "acquisition", inelastic_loss=0.5)
    tomogram = simulate_tomogram(settings)
    np.testing.assert_array_equal(tomogram.series.ctf.scale, 1.0)
    tilt = int(np.argmax(tomogram.angles_degrees))  # 60°
    plain = replace(
        tomogram.images.painter, series=replace(tomogram.images.painter.series, ctf=tomogram.series.ctf)
    )
    expected = np.exp(-0.5) * plain.paint(tilt)
    np.testing.assert_allclose(
        tomogram.images.painter.paint(tilt), expected, atol=1e-5 * np.abs(expected).max()
    )


def test_parts_of_map_and_spectrum_that_are_left_out_are_negligible(
    small: SimulationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = varied(varied(small, "molecule", box_px=96), "specimen", particles=2, min_distance_px=60.0)
    settings = varied(settings, "acquisition", frame_dose=9.0)  # up to 90 e/A2
    tomogram = simulate_tomogram(settings)
    painter, structure = tomogram.images.painter, build_structure(settings)
    assert painter.volume.support_px < 80
    monkeypatch.setattr(slices, "NEGLIGIBLE", 0.0)
    monkeypatch.setattr(painters, "FAINTEST", 0.0)
    complete = replace(painter, volume=slice_volume(structure.density, 96**-0.5))
    assert complete.volume.support_px == 96
    expected = [complete.paint(tilt) for tilt in range(11)]
    monkeypatch.undo()
    k = np.hypot(np.fft.fftfreq(173)[:, None], np.fft.rfftfreq(201)[None, :])
    for tilt in range(11):
        exact = np.fft.rfft2(expected[tilt])[k < 0.45]
        error = np.fft.rfft2(painter.paint(tilt) - expected[tilt])
        assert np.linalg.norm(error[k < 0.45]) < 0.01 * np.linalg.norm(exact)
        assert np.linalg.norm(error) < 0.025 * np.linalg.norm(exact)
