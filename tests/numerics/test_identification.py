"""Two-way identification against double loops, and its interval and p by simulation."""

from __future__ import annotations

import time

import numpy as np
import pytest

from phosphene.errors import PhospheneError
from phosphene.numerics.identification import similarity, two_way_identification

DIRECTIONS = ("takagi2023", "braindiffuser")


def pearson(a, b):
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return np.corrcoef(a, b)[0, 1]


def double_loop(recon, original, direction):
    """Per-image accuracy, word for word."""
    recon = recon[:, None] if recon.ndim == 2 else recon
    n = len(original)
    per_image = np.zeros(n)

    def r(i, j):  # of the original i with the reconstructions of j, averaged over their samples
        return np.mean([pearson(sample, original[i]) for sample in recon[j]])

    for i in range(n):
        for j in set(range(n)) - {i}:
            own = r(i, i)
            other = r(i, j) if direction == "takagi2023" else r(j, i)
            per_image[i] += (
                0.5 if np.isclose(own, other, rtol=0, atol=1e-11) else float(own > other)
            )
    return per_image / (n - 1)


def draw(n=12, d=20, samples=None, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    original = rng.normal(size=(n, d)) + 5
    shape = (n, d) if samples is None else (n, samples, d)
    source = original if samples is None else original[:, None]
    return source + noise * rng.normal(size=shape), original


def quick(recon, original, direction="takagi2023", **settings):
    return two_way_identification(
        recon, original, direction=direction, **({"n_bootstrap": 0, "n_permutations": 0} | settings)
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("samples", [None, 1, 5])
def test_is_the_double_loop(direction, samples, monkeypatch):
    monkeypatch.setattr(similarity, "_FEATURES_PER_BLOCK", 7)  # several blocks, one uneven
    recon, original = draw(samples=samples)
    result = quick(recon, original, direction)
    # in takagi2023 original i is compared with reconstruction j, in braindiffuser reconstruction i
    # with original j
    np.testing.assert_allclose(result.per_image, double_loop(recon, original, direction))
    assert result.accuracy == pytest.approx(result.per_image.mean()) and result.n == 12
    assert result.direction == direction and np.isnan(result.p) and np.isnan(result.ci).all()


def test_the_two_directions_differ_in_what_is_fixed():
    original = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    recon = np.array([[1.0, 0.1, 0.1, 0], [0.9, 0.8, 0, 0], [1, 0, 0.7, 0.2]])
    for direction in DIRECTIONS:
        np.testing.assert_allclose(
            quick(recon, original, direction).per_image, double_loop(recon, original, direction)
        )
    assert quick(recon, original).accuracy != quick(recon, original, "braindiffuser").accuracy


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_perfect_and_reversed(direction):
    original = np.random.default_rng(0).normal(size=(9, 30)).astype(np.float32)
    assert quick(original, original, direction).accuracy == 1
    assert quick(-original, original, direction).accuracy == 0
    assert quick(np.repeat(original[:, None] * 3 + 1, 4, axis=1), original, direction).accuracy == 1


def test_identical_reconstructions_tie_and_count_half():
    _, original = draw(n=50, d=999)
    same = np.broadcast_to(original.mean(axis=0), original.shape)
    assert quick(same, original).accuracy == 0.5
    recon = original.copy()
    recon[1] = recon[0]
    np.testing.assert_allclose(quick(recon, original).per_image[[0, 2]], [1 - 0.5 / 49, 1])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nan_and_constant_features_never_count_as_success(direction):
    recon, original = draw(noise=0.0)
    recon[2] = 7.3
    recon[5, 3] = np.nan
    result = quick(recon, original, direction)
    assert result.per_image[2] == result.per_image[5] == 0
    # the ten sound pictures: all won, except that a failed reconstruction is never beaten as a
    # distractor either
    sound = np.delete(result.per_image, [2, 5])
    np.testing.assert_allclose(sound, 9 / 11 if direction == "takagi2023" else 1)
    np.testing.assert_allclose(result.per_image, double_loop(recon, original, direction))
    assert quick(np.full_like(recon, 3.0), original, direction).accuracy == 0
    assert quick(np.full_like(recon, np.nan), original, direction).accuracy == 0
    # one bad sample of two
    assert quick(np.stack([recon, original], axis=1), original, direction).per_image[2] == 0


def test_two_images():
    recon, original = draw(n=2, noise=0.1)
    result = two_way_identification(recon, original)
    assert result.accuracy == 1 and result.ci == (1, 1)
    assert 0.4 < result.p < 0.6  # only two pairings exist
    assert quick(recon[::-1], original).accuracy == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bootstrap_and_permutations_by_hand(direction):
    recon, original = draw(n=10, noise=3.0)
    result = two_way_identification(
        recon, original, direction=direction, n_bootstrap=4000, n_permutations=4000
    )
    rng = np.random.default_rng(1)
    r = np.corrcoef(original, recon)[:10, 10:]
    r = r if direction == "takagi2023" else r.T
    estimate, error = accuracy_and_error(r, np.arange(10))
    assert estimate == pytest.approx(result.accuracy)
    distances = []
    permuted = []
    for _ in range(1500):
        accuracy, its_error = accuracy_and_error(r, rng.integers(0, 10, 10))
        distances += [(accuracy - estimate) / its_error] if its_error > 1e-9 else []
        permuted.append(double_loop_fast(recon[rng.permutation(10)], original, direction))
    low, high = np.quantile(distances, [0.025, 0.975])
    np.testing.assert_allclose(
        result.ci, np.clip([estimate - high * error, estimate - low * error], 0, 1), atol=0.04
    )
    assert result.p == pytest.approx(
        np.mean(np.array(permuted) >= result.accuracy - 1e-9), abs=0.03
    )


def accuracy_and_error(r, drawn):
    """Accuracy of drawn images, and the spread over them of how often each wins, and is beaten as a
    distractor.
    """
    n = len(drawn)
    won = np.zeros(n)
    lost_to = np.zeros(n)
    seen = np.zeros(n)
    for a in range(n):
        for b in range(n):
            if drawn[a] != drawn[b]:
                win = float(r[drawn[a], drawn[a]] > r[drawn[a], drawn[b]])
                won[a] += win
                lost_to[b] += win
                seen[a] += 1
    accuracy = won.sum() / seen.sum()
    influence = (won + lost_to - 2 * accuracy * seen) / seen.sum()
    return accuracy, np.sqrt((influence**2).sum() * n / (n - 1))


def double_loop_fast(recon, original, direction):
    n = len(original)
    r = np.corrcoef(original, recon)[:n, n:]
    r = r if direction == "takagi2023" else r.T
    return np.mean([(np.diagonal(r)[i] > np.delete(r[i], i)).mean() for i in range(n)])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_chance_is_a_half_and_p_is_uniform(direction):
    rng = np.random.default_rng(0)
    results = [
        quick(
            rng.normal(size=(20, 15)),
            rng.normal(size=(20, 15)),
            direction,
            n_permutations=99,
            rng=rng,
        )
        for _ in range(300)
    ]
    assert np.mean([result.accuracy for result in results]) == pytest.approx(0.5, abs=0.015)
    p = np.array([result.p for result in results])
    assert np.mean(p <= 0.05) < 0.09 and 0.4 < p.mean() < 0.6 and 0.35 < np.mean(p <= 0.5) < 0.65


def test_a_seed_fixes_the_result_and_nsd_size_takes_seconds():
    recon, original = draw(n=982, d=64, noise=4.0)
    start = time.perf_counter()
    first = two_way_identification(recon, original, rng=3)
    assert time.perf_counter() - start < 10
    second = two_way_identification(recon, original, rng=np.random.default_rng(3))
    assert (first.ci, first.p) == (second.ci, second.p)
    assert first.ci[0] < first.accuracy < first.ci[1] and first.p == 1 / 2001


@pytest.mark.parametrize(
    ("recon", "original", "direction", "sentence"),
    [
        ((5, 4), (6, 4), "takagi2023", "features must be"),
        ((5, 3), (5, 4), "takagi2023", "features must be"),
        ((5, 0, 4), (5, 4), "takagi2023", "features must be"),
        ((5,), (5,), "takagi2023", "features must be"),
        ((1, 4), (1, 4), "takagi2023", "at least two images"),
        ((5, 1), (5, 1), "takagi2023", "two features"),
        ((5, 4), (5, 4), "both", "direction must be takagi2023 or braindiffuser"),
    ],
)
def test_bad_input_is_refused(recon, original, direction, sentence):
    with pytest.raises(PhospheneError, match=sentence):
        quick(np.zeros(recon), np.zeros(original), direction)
