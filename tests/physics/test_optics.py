"""The microscope, against scalar formulas by definition (docs/dev/conventions.md, Optics)."""

from __future__ import annotations

from math import asin, atan, atan2, cos, exp, pi, radians, sin, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.physics.optics import (
    Microscope,
    TiltCtf,
    aberration_phase,
    ctf_phase,
    dose_weight,
    even_zernike_index,
    odd_zernike_index,
    zernike,
)

# Σ over these, by index: Cartesian forms of the polynomials, x = ρ cos φ, y = ρ sin φ, s = ρ².
EVEN = [
    lambda x, y: 1.0 + 0 * x,
    lambda x, y: 2 * x * y,
    lambda x, y: 2 * (x**2 + y**2) - 1,
    lambda x, y: x**2 - y**2,
    lambda x, y: 4 * x * y * (x**2 - y**2),
    lambda x, y: (4 * (x**2 + y**2) - 3) * 2 * x * y,
    lambda x, y: 6 * (x**2 + y**2) ** 2 - 6 * (x**2 + y**2) + 1,
    lambda x, y: (4 * (x**2 + y**2) - 3) * (x**2 - y**2),
    lambda x, y: x**4 - 6 * x**2 * y**2 + y**4,
]
ODD = [
    lambda x, y: y,
    lambda x, y: x,
    lambda x, y: 3 * x**2 * y - y**3,
    lambda x, y: (3 * (x**2 + y**2) - 2) * y,
    lambda x, y: (3 * (x**2 + y**2) - 2) * x,
    lambda x, y: x**3 - 3 * x * y**2,
]


def make_tilt(**values: float) -> TiltCtf:
    fields = {
        "defocus_u_angstrom": 30000.0,
        "defocus_v_angstrom": 28000.0,
        "defocus_angle_degrees": 25.0,
        "phase_shift_degrees": 0.0,
        "bfactor_angstrom2": 0.0,
        "scale": 1.0,
    }
    return TiltCtf(**{k: np.array([values.get(k, v)]) for k, v in fields.items()})


@pytest.mark.parametrize(("kv", "expected"), [(100.0, 0.0370144), (200.0, 0.0250793), (300.0, 0.0196875)])
def test_wavelength(kv: float, expected: float) -> None:
    """Published wavelengths (0.03701, 0.02508 and 0.01969 Å), and the definition to the last digit."""
    scope = Microscope(voltage_kv=kv, spherical_aberration_mm=2.7, amplitude_contrast=0.1)
    volt = kv * 1000.0
    assert scope.wavelength_angstrom == pytest.approx(expected, abs=2e-6)
    assert scope.wavelength_angstrom == pytest.approx(12.2643247 / sqrt(volt * (1 + volt * 0.978466e-6)))
    assert scope.spherical_aberration_angstrom == 2.7e7


@given(
    kx=st.floats(-0.25, 0.25),
    ky=st.floats(-0.25, 0.25),
    u=st.floats(1000, 80000),
    v=st.floats(1000, 80000),
    angle=st.floats(-180, 180),
    phase=st.floats(0, 180),
    q0=st.floats(0, 0.99),
    cs=st.floats(0, 4),
    depth=st.floats(-2000, 2000),
)
def test_ctf_phase(kx, ky, u, v, angle, phase, q0, cs, depth) -> None:  # type: ignore[no-untyped-def]
    scope = Microscope(voltage_kv=300.0, spherical_aberration_mm=cs, amplitude_contrast=q0)
    tilt = make_tilt(defocus_u_angstrom=u, defocus_v_angstrom=v, defocus_angle_degrees=angle)
    form = tilt.astigmatism_angstrom()[0] + np.array([depth, 0, depth])
    found = ctf_phase(np.array([kx]), np.array([ky]), form, scope, phase)[0]

    volt, k = 300e3, sqrt(kx**2 + ky**2)
    wavelength = 12.2643247 / sqrt(volt * (1 + 0.978466e-6 * volt))
    # U along the defocus angle, V across it
    away = atan2(ky, kx) - radians(angle)
    defocus = (u + depth) * cos(away) ** 2 + (v + depth) * sin(away) ** 2
    gamma = -pi * wavelength * defocus * k**2 + pi / 2 * cs * 1e7 * wavelength**3 * k**4
    gamma -= radians(phase) + atan(q0 / sqrt(1 - q0**2))
    assert found == pytest.approx(gamma, abs=1e-9 * max(1, abs(gamma)))


def test_amplitude_contrast_is_the_value_at_zero_frequency() -> None:
    scope = Microscope(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1)
    zero = np.zeros(1)
    gamma = ctf_phase(zero, zero, make_tilt().astigmatism_angstrom()[0], scope)
    # CTF = −sin γ: +0.1 at the origin, and protein dark in an underfocused image
    assert -np.sin(gamma) == pytest.approx(0.1)
    assert scope.amplitude_phase == pytest.approx(asin(0.1))
    whole = Microscope(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=1.0)
    assert whole.amplitude_phase == pytest.approx(pi / 2)


@given(
    u=st.floats(0, 80000), v=st.floats(0, 80000), angle=st.floats(-360, 360)
)  # also V > U, as files may hold it
def test_astigmatism_has_the_defocus_values_as_eigenvalues(u: float, v: float, angle: float) -> None:
    xx, xy, yy = make_tilt(
        defocus_u_angstrom=u, defocus_v_angstrom=v, defocus_angle_degrees=angle
    ).astigmatism_angstrom()[0]
    form = np.array([[xx, xy], [xy, yy]])
    along = np.array([cos(radians(angle)), sin(radians(angle))])
    np.testing.assert_allclose(form @ along, u * along, atol=1e-9 * (u + v + 1))
    across = np.array([-along[1], along[0]])
    np.testing.assert_allclose(form @ across, v * across, atol=1e-9 * (u + v + 1))


def test_each_row_of_a_tilt_series_has_its_own_astigmatism() -> None:
    rng = np.random.default_rng(4)
    columns = {name: rng.uniform(1, 9, 3) for name in make_tilt().__dataclass_fields__}
    whole = TiltCtf(**columns).astigmatism_angstrom()
    for i in range(3):
        np.testing.assert_allclose(whole[i], make_tilt(**{k: v[i] for k, v in columns.items()})
                                   .astigmatism_angstrom()[0])  # fmt: skip


@pytest.mark.parametrize(("parity", "forms"), [("even", EVEN), ("odd", ODD)])
def test_low_aberrations_have_their_closed_forms(parity: str, forms: list) -> None:
    x, y = np.random.default_rng(5).uniform(-0.4, 0.4, (2, 30))
    for i, form in enumerate(forms):
        coefficients = tuple(1.5 * (j == i) for j in range(len(forms)))
        np.testing.assert_allclose(
            aberration_phase(coefficients, parity, x, y),
            1.5 * form(x, y),
            atol=1e-13,
            err_msg=f"{parity} {i}",
        )


def test_aberrations_add_up() -> None:
    x, y = np.random.default_rng(6).uniform(-0.4, 0.4, (2, 7, 5))
    c = tuple(np.random.default_rng(7).normal(size=9))
    expected = sum(ci * form(x, y) for ci, form in zip(c, EVEN, strict=True))
    np.testing.assert_allclose(aberration_phase(c, "even", x, y), expected, atol=1e-12)
    np.testing.assert_array_equal(aberration_phase((), "odd", x, y), np.zeros((7, 5)))


def test_parities_hold_at_every_index() -> None:
    x, y = np.random.default_rng(8).uniform(-0.5, 0.5, (2, 20))
    for parity, sign, index in (("even", 1, even_zernike_index), ("odd", -1, odd_zernike_index)):
        seen = set()
        for i in range(36):
            m, n = index(i)
            assert abs(m) <= n and (n - m) % 2 == 0
            seen.add((m, n))
            one = (0.0,) * i + (1.0,)
            there, back = aberration_phase(one, parity, x, y), aberration_phase(one, parity, -x, -y)
            np.testing.assert_allclose(back, sign * there, atol=1e-12)
        assert len(seen) == 36


def test_zernike_is_one_at_the_rim() -> None:
    one = np.ones(1)
    for n in range(9):
        for m in range(-n, n + 1, 2):
            phi = np.array([0.0 if m >= 0 else pi / (2 * abs(m))])
            assert zernike(m, n, one, phi)[0] == pytest.approx(1, abs=1e-12), (m, n)


def test_dose_weight() -> None:
    k = np.array([0.0, 0.01, 0.1, 0.3])
    weight = dose_weight(k, 60.0)
    assert weight[0] == 1
    for i in (1, 2, 3):
        assert weight[i] == pytest.approx(exp(-0.5 * 60 / (0.245 * k[i] ** -1.665 + 2.81)))
    assert np.all(np.diff(weight) < 0)
    np.testing.assert_array_equal(dose_weight(k, 0.0), 1)
    # never below the plateau that the curve's constant leaves
    assert dose_weight(np.array([1e6]), 60.0)[0] == pytest.approx(exp(-30 / 2.81))


def test_dose_weight_by_bfactor() -> None:
    k = np.array([0.0, 0.1, 0.3])
    np.testing.assert_allclose(
        dose_weight(k, 60.0, 4.0), [1, exp(-4 * 60 * 0.01 / 4), exp(-4 * 60 * 0.09 / 4)]
    )
    np.testing.assert_array_equal(dose_weight(k, 60.0, 0.0), dose_weight(k, 60.0))
