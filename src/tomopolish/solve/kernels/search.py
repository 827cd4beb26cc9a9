"""Compiled loops of the search, which move and add windows and score candidate places.

The loops run without Python's lock; the caller spreads tilt images and particles over threads. Windows are
those of `coarse.CoarseWindows`: n rows of n samples, followed by zeros up to the width of a row. A move by at
most that gap is a single offset in memory, so that a window is added in one long loop.
"""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined(fastmath=True, error_model="numpy")
def _add_one(source, start, first, last, weight, target):  # type: ignore[no-untyped-def]
    """Add ``weight · source[start + i]`` to ``target[i]`` for first ≤ i < last."""
    if last > first:
        part, onto = source[start + first : start + last], target[first:last]
        for i in range(last - first):
            onto[i] += weight * part[i]


@inlined(fastmath=True, error_model="numpy")
def add_moved(windows, size, which, moves_x, moves_y, weights, count, top, bottom, total):  # type: ignore[no-untyped-def]
    """Add ``Σ_k weights[k] · windows[which[k], y + moves_y[k], x + moves_x[k]]`` to ``total[y, x]``.

    The sum is over k < count. Only rows top ≤ y < bottom are changed. Columns of `total` beyond the first
    `size` are undefined afterwards. Four windows are added at a time, which saves most of the traffic to and
    from `total`.

    Parameters
    ----------
    windows : (P, n, width) float32
    which, moves_x, moves_y : (K,) int64; weights : (K,) float32; overwritten
    total : (n, width) float32
    """
    width = windows.shape[2]
    plane, length, gap = windows.shape[1] * width, size * width, width - size
    front, back = top * width, bottom * width
    source, target = windows.reshape(-1), total.reshape(-1)
    entries = 0
    for k in range(count):
        ox, oy = moves_x[k], moves_y[k]
        if abs(ox) >= size or abs(oy) >= size:
            continue
        if abs(ox) > gap:
            window = windows[which[k]]
            for y in range(max(top, -oy), min(bottom, size - oy)):
                for x in range(max(0, -ox), min(size, size - ox)):
                    total[y, x] += weights[k] * window[y + oy, x + ox]
            continue
        # From here on, `which` is an offset in memory, and `moves_x` the move in memory.
        which[entries], moves_x[entries], weights[entries] = which[k] * plane, oy * width + ox, weights[k]
        entries += 1
    for k in range(0, entries, 4):
        many = min(4, entries - k)
        first, last = front, back
        for j in range(k, k + many):
            first, last = max(first, -moves_x[j]), min(last, length - max(0, moves_x[j]))
        if many < 4 or last <= first:
            first = last = front  # windows are added one after another
        else:
            a, b = which[k] + moves_x[k] + first, which[k + 1] + moves_x[k + 1] + first
            c, d = which[k + 2] + moves_x[k + 2] + first, which[k + 3] + moves_x[k + 3] + first
            u, v, w, z = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            span = last - first
            onto, row_a, row_b = target[first:last], source[a : a + span], source[b : b + span]
            row_c, row_d = source[c : c + span], source[d : d + span]
            for i in range(span):
                onto[i] += (u * row_a[i] + v * row_b[i]) + (w * row_c[i] + z * row_d[i])
        for j in range(k, k + many):
            begin, end = max(front, -moves_x[j]), min(back, length - max(0, moves_x[j]))
            _add_one(source, which[j] + moves_x[j], begin, min(end, first), weights[j], target)
            _add_one(source, which[j] + moves_x[j], max(begin, last), end, weights[j], target)


@kernel(fastmath=True, error_model="numpy")
def add_clouds(windows, size, visible, start, rows, clouds, weights, scale, total):  # type: ignore[no-untyped-def]
    """Sum one tilt image's windows over particles, each averaged over its cloud of possible positions.

    Weights of positions at the same sample are summed first, so that the window is added once.

    Parameters
    ----------
    windows : (P, n, width) float32
    visible : (P,) bool
    start : (P, 2) float64, current displacement (x, y) of each particle, in samples
    rows : (2, 3) float64, first two rows of the projection's rotation
    clouds : (P, K, 3) float64, displacements in px; weights : (P, K) float64
    scale : float, samples per px
    total : (n, width) float32, added to
    """
    places = weights.shape[1]
    most = len(windows) * places
    which, at_x, at_y = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    share = np.empty(most, np.float32)
    entries = np.int64(0)
    for p in range(windows.shape[0]):
        if not visible[p]:
            continue
        own = entries
        for k in range(places):
            if weights[p, k] < 1e-3:
                continue
            dx, dy, dz = clouds[p, k, 0], clouds[p, k, 1], clouds[p, k, 2]
            ox = int(np.rint(start[p, 0] + scale * (rows[0, 0] * dx + rows[0, 1] * dy + rows[0, 2] * dz)))
            oy = int(np.rint(start[p, 1] + scale * (rows[1, 0] * dx + rows[1, 1] * dy + rows[1, 2] * dz)))
            same = own
            while same < entries and (at_x[same] != ox or at_y[same] != oy):
                same += 1
            if same == entries:
                which[entries], at_x[entries], at_y[entries], share[entries] = p, ox, oy, 0
                entries += 1
            share[same] += np.float32(weights[p, k])
    add_moved(windows, size, which, at_x, at_y, share, entries, np.int64(0), np.int64(size), total)


@kernel(fastmath=True, error_model="numpy")
def best_moves(windows, size, visible, arms, fixed, turns, prior, score, place):  # type: ignore[no-untyped-def]
    """Compute the most probable shift of one tilt image for each of several rotations, at fixed positions.

    Parameters
    ----------
    windows : (P, n, width) float32; visible : (P,) bool
    arms : (P, 3) float64, particles relative to the centre of rotation, in samples
    fixed : (P, 2) float64, displacement (x, y) of each particle less its turned arm, in samples
    turns : (N, 2, 3) float64, first two rows of each rotation
    prior : (n, n) float32, logarithmic, of the shifts
    score : (N,) float64, written: the largest sum of windows and prior
    place : (N,) int64, written: where it is, y · n + x
    """
    many = len(windows)
    which, at_x, at_y = np.empty(many, np.int64), np.empty(many, np.int64), np.empty(many, np.int64)
    share = np.empty(many, np.float32)
    total = np.empty(windows.shape[1:], np.float32)
    for n in range(len(turns)):
        rows, entries = turns[n], np.int64(0)
        for p in range(many):
            if visible[p]:
                x, y, z = arms[p, 0], arms[p, 1], arms[p, 2]
                at_x[entries] = int(np.rint(fixed[p, 0] + rows[0, 0] * x + rows[0, 1] * y + rows[0, 2] * z))
                at_y[entries] = int(np.rint(fixed[p, 1] + rows[1, 0] * x + rows[1, 1] * y + rows[1, 2] * z))
                which[entries], share[entries] = p, 1
                entries += 1
        total[:] = 0
        add_moved(windows, size, which, at_x, at_y, share, entries, np.int64(0), np.int64(size), total)
        score[n], place[n] = -np.inf, 0
        for y in range(size):
            for x in range(size):
                value = total[y, x] + prior[y, x]
                if value > score[n]:
                    score[n], place[n] = value, y * size + x


@inlined(fastmath=True, error_model="numpy")
def _average(windows, size, particle, shifts_x, shifts_y, shares, top, bottom, averaged):  # type: ignore[no-untyped-def]
    """Compute rows top ≤ y < bottom of a particle's window in one tilt image, averaged over K shifts."""
    places = len(shares)
    which, at_x, at_y = np.empty(places, np.int64), np.empty(places, np.int64), np.empty(places, np.int64)
    share, entries = np.empty(places, np.float32), np.int64(0)  # a literal would have another type
    for k in range(places):
        if shares[k] > 0:
            which[entries], at_x[entries], at_y[entries] = particle, shifts_x[k], shifts_y[k]
            share[entries] = shares[k]
            entries += 1
    averaged[top:bottom] = 0
    add_moved(windows, size, which, at_x, at_y, share, entries, np.int64(top), np.int64(bottom), averaged)


@kernel(fastmath=True, error_model="numpy")
def score_positions(  # type: ignore[no-untyped-def]
    windows, size, shifts_x, shifts_y, shares, first, last, visible, index, rows, candidates, step, score,
):  # fmt: skip
    """Sum over tilt images of windows at each candidate 3D displacement (bilinear).

    Every window is first averaged over its tilt image's possible shifts.

    Parameters
    ----------
    windows : (F, P, n, width) float32
    shifts_x, shifts_y : (F, K) int64, possible shifts, in samples; shares : (F, K), their probabilities
    first, last : int, particles first … last − 1 are scored
    visible : (F, P) bool
    index : (F, P, 2) float64, position (x, y) of zero displacement, in samples
    rows : (F, 2, 3) float32, first two rows of each projection's rotation
    candidates : (C, 3) float32, displacements in px
    step : float, px per sample
    score : (last − first, C) float32, written
    """
    scale = np.float32(1.0 / step)
    width = np.int32(windows.shape[3])
    end = np.float32(size - 1)
    count = candidates.shape[0]
    cx, cy, cz = candidates[:, 0].copy(), candidates[:, 1].copy(), candidates[:, 2].copy()
    place = np.empty(count, np.uint32)
    part_x, part_y, inside = (
        np.empty(count, np.float32),
        np.empty(count, np.float32),
        np.empty(count, np.float32),
    )
    averaged = np.empty(windows.shape[2:], np.float32)
    score[:] = 0
    for p in range(first, last):
        total = score[p - first]
        for f in range(windows.shape[0]):
            if not visible[f, p]:
                continue
            x0, y0 = np.float32(index[f, p, 0]), np.float32(index[f, p, 1])
            ax, bx, dx = scale * rows[f, 0, 0], scale * rows[f, 0, 1], scale * rows[f, 0, 2]
            ay, by, dy = scale * rows[f, 1, 0], scale * rows[f, 1, 1], scale * rows[f, 1, 2]
            # Places are computed first, in vector instructions; the values there are spread over memory.
            top, bottom = np.int32(size), np.int32(0)
            for c in range(count):
                x = x0 + ax * cx[c] + bx * cy[c] + dx * cz[c]
                y = y0 + ay * cx[c] + by * cy[c] + dy * cz[c]
                within = np.float32((x >= 0) & (x < end) & (y >= 0) & (y < end))
                x, y = x * within, y * within
                ix, iy = np.int32(x), np.int32(y)
                part_x[c], part_y[c], inside[c] = x - np.float32(ix), y - np.float32(iy), within
                place[c] = iy * width + ix
                top, bottom = min(top, iy), max(bottom, iy)
            _average(windows[f], size, p, shifts_x[f], shifts_y[f], shares[f], top, bottom + 2, averaged)
            window = averaged.reshape(-1)
            for c in range(count):
                at, tx = np.uint64(place[c]), part_x[c]
                below = at + np.uint64(width)
                near = window[at] + tx * (window[at + np.uint64(1)] - window[at])
                far = window[below] + tx * (window[below + np.uint64(1)] - window[below])
                total[c] += inside[c] * (near + part_y[c] * (far - near))


@inlined(error_model="numpy", fastmath={"contract", "reassoc"})
def _spline(padded, x, y, basis):  # type: ignore[no-untyped-def]
    """Return a B-spline at a place, in samples; `padded` has its coefficients amid four rows of zeros."""
    last = len(padded) - 8
    fx, fy = np.floor(x), np.floor(y)
    if not (-3 < fx < last + 1 and -3 < fy < last + 1):
        return 0.0
    tx, ty, ix, iy = x - fx, y - fy, int(fx) + 3, int(fy) + 3
    total = 0.0
    for j in range(4):
        along = 0.0
        for i in range(4):
            weight = basis[i, 0] + tx * (basis[i, 1] + tx * (basis[i, 2] + tx * basis[i, 3]))
            along += weight * padded[iy + j, ix + i]
        total += (basis[j, 0] + ty * (basis[j, 1] + ty * (basis[j, 2] + ty * basis[j, 3]))) * along
    return total


@kernel(error_model="numpy", fastmath={"contract", "reassoc"})
def score_places(  # type: ignore[no-untyped-def]
    coefficients, units, weights, start, rows, places, scale, limit, which, basis, score
):  # fmt: skip
    """Sum over tilt images of some particles' surfaces at each of several displacements (`surface`).

    Parameters
    ----------
    coefficients : (F, P, n, n) int16, multiples of units : (F, P) float32
    weights : (F, P) float64, factor of each pair; zero where it is not visible
    start : (F, D, 2) float64, displacement (x, y) in px to which those of the places are added
    rows : (F, 2, 3) float64, first two rows of each projection's rotation
    places : (K, 3) float64, displacements in px
    scale : (2,) float64, samples per px, and index of no displacement
    limit : (2,) float64, displacement in px beyond which its excess, squared, costs the second number
    which : (D,) int64, the particles
    basis : (4, 4) float64, as in `pairs.interpolate`
    score : (D, K) float64, written
    """
    score[:] = 0
    size = coefficients.shape[2]
    padded = np.zeros((size + 8, size + 8))
    for d in range(len(which)):
        p = which[d]
        for f in range(len(coefficients)):
            if weights[f, p] == 0:
                continue
            padded[4 : size + 4, 4 : size + 4] = coefficients[f, p]
            unit, R = units[f, p] * weights[f, p], rows[f]
            for k in range(len(places)):
                a, b, c = places[k, 0], places[k, 1], places[k, 2]
                x = start[f, d, 0] + R[0, 0] * a + R[0, 1] * b + R[0, 2] * c
                y = start[f, d, 1] + R[1, 0] * a + R[1, 1] * b + R[1, 2] * c
                value = unit * _spline(padded, x * scale[0] + scale[1], y * scale[0] + scale[1], basis)
                excess = np.hypot(x, y) - limit[0]
                if limit[1] > 0 and excess > 0:
                    value -= limit[1] * excess * excess * weights[f, p]
                score[d, k] += value


@inlined(error_model="numpy")
def _likeliest(log_probability, faintest, chosen, weights):  # type: ignore[no-untyped-def]
    """Choose the most probable entries, in order, and compute their normalised probabilities.

    Parameters
    ----------
    log_probability : (N,) float64
    faintest : float, probability relative to the best one below which an entry is left out
    chosen : (K,) int64, written; entries that are not used are 0
    weights : (K,) float64, written; entries that are not used are 0
    """
    best = -np.inf
    for value in log_probability:
        best = max(best, value)
    bound = best + np.log(faintest)
    places = len(weights)
    largest = np.full(places + 1, -np.inf)  # ascending
    for value in log_probability:
        if value > bound and value > largest[0]:
            i = 0
            while i < places and largest[i + 1] < value:
                largest[i] = largest[i + 1]
                i += 1
            largest[i] = value
    bound = max(bound, largest[0])  # the most probable entry that does not fit, where all places are used
    for k in range(places):
        chosen[k], weights[k] = 0, 0
    entries = np.int64(0)
    for i in range(len(log_probability)):
        if log_probability[i] > bound and entries < places:
            chosen[entries], weights[entries] = i, np.exp(log_probability[i] - best)
            entries += 1
    total = 0.0
    for weight in weights:
        total += weight
    for k in range(places):
        weights[k] /= total


@inlined(error_model="numpy")
def _tempering(score, sharpness):  # type: ignore[no-untyped-def]
    """Return the factor, at most 1, that limits the difference between the best score and the mean score."""
    highest, total = -np.inf, 0.0
    for value in score:
        highest = max(highest, value)
        total += value
    contrast = highest - total / len(score)
    return min(1.0, sharpness / contrast) if contrast > 0 else 1.0


@kernel(error_model="numpy")
def choose_places(scores, penalty, sharpness, faintest, chosen, weights):  # type: ignore[no-untyped-def]
    """Choose the most probable places by tempered scores (`_tempering`) minus penalties (`_likeliest`).

    Parameters
    ----------
    scores : (B, N) float32, log-likelihoods
    penalty : (N,) float64, subtracted
    chosen, weights : (B, K), as in `_likeliest`
    """
    for b in range(len(scores)):
        factor = _tempering(scores[b], sharpness)
        _likeliest(factor * scores[b] - penalty, faintest, chosen[b], weights[b])
