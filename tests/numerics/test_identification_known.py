"""Known answers: perfect and shuffled brains, one that knows only the category; how often intervals
hold the truth.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from threadpoolctl import threadpool_limits

from phosphene.numerics.identification import correlations, identify, two_way_identification

DIRECTIONS = ("takagi2023", "braindiffuser")


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny products: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def brain(n, seed, d=50, noise=4.0, uneven=0.0):
    """Features of pictures, and of reconstructions from a brain that is noisier for some pictures
    than for others.
    """
    rng = np.random.default_rng(seed)
    original = rng.normal(size=(n, d))
    spread = noise * np.exp(uneven * rng.normal(size=(n, 1)))
    return original + spread * rng.normal(size=(n, d)), original


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_perfect_decoder_is_always_right(direction):
    _, original = brain(80, 0)
    found = two_way_identification(
        2 * original + 1, original, direction=direction, n_permutations=999
    )
    assert (
        found.accuracy == 1
        and (found.per_image == 1).all()
        and found.ci == (1, 1)
        and found.p == 0.001
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_shuffled_decoder_is_at_chance_and_its_p_uniform(direction):
    accuracies = []
    p = []
    for seed in range(200):
        recon, original = brain(60, seed)  # knows the pictures well: only the pairing is lost
        shuffled = recon[np.random.default_rng(1000 + seed).permutation(60)]
        found = two_way_identification(
            shuffled, original, direction=direction, n_bootstrap=0, n_permutations=199, rng=seed
        )
        accuracies.append(found.accuracy)
        p.append(found.p)
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.015)
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_brain_that_knows_only_the_category(direction):
    kinds = np.repeat(np.arange(5), [4, 8, 12, 16, 20])
    within = kinds[:, None] == kinds
    p = []
    everywhere = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(5, 30))
        original, recon = (centres[kinds] + rng.normal(size=(60, 30)) for _ in range(2))
        r = correlations(recon, original)[0]
        draws = {"direction": direction, "n_bootstrap": 0, "n_permutations": 199, "rng": seed}
        p.append(identify(r, among=within, **draws).p)
        everywhere.append(identify(r, **draws).p)
    assert kstest(p, "uniform").pvalue > 0.01
    assert max(everywhere) < 0.01  # among all pictures it identifies far above chance


@pytest.mark.parametrize(
    ("n", "noise", "uneven"), [(60, 9.0, 0.0), (80, 2.0, 0.8)]
)  # 67 and 94 % correct
def test_intervals_hold_the_truth(n, noise, uneven):
    settings = {"noise": noise, "uneven": uneven}
    endless = [correlations(*brain(1500, 10_000 + k, **settings))[0] for k in range(3)]
    truth = {
        direction: np.mean([accuracy(r, direction) for r in endless]) for direction in DIRECTIONS
    }
    hits = dict.fromkeys(DIRECTIONS, 0)
    for seed in range(300):
        r = correlations(*brain(n, seed, **settings))[0]
        for direction in DIRECTIONS:
            low, high = identify(
                r, direction=direction, n_bootstrap=300, n_permutations=0, rng=seed
            ).ci
            hits[direction] += low <= truth[direction] <= high
    assert all(0.93 * 300 <= count <= 0.97 * 300 for count in hits.values()), hits


def accuracy(r, direction):
    return identify(r, direction=direction, n_bootstrap=0, n_permutations=0).accuracy


def test_intervals_within_categories_hold_the_truth():
    def study(groups, seed):
        rng = np.random.default_rng(seed)
        kinds = np.repeat(np.arange(groups), 8)
        original = rng.normal(size=(groups, 20))[kinds] + rng.normal(size=(len(kinds), 20))
        recon = original + 2 * rng.normal(size=original.shape)
        return correlations(recon, original)[0], kinds[:, None] == kinds

    r, among = study(200, 10_000)
    truth = identify(r, among=among, n_bootstrap=0, n_permutations=0).accuracy
    hits = 0
    for seed in range(200):
        r, among = study(10, seed)
        low, high = identify(r, among=among, n_bootstrap=300, n_permutations=0, rng=seed).ci
        hits += low <= truth <= high
    assert 0.6 < truth < 0.95 and 0.9 * 200 <= hits <= 0.99 * 200
