"""Correlations, choice among samples, distractors of one kind, retrieval: against loops and by
hand.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from phosphene.errors import PhospheneError
from phosphene.numerics.identification import (
    choose,
    correlations,
    identify,
    retrieval,
    similarity,
    two_way_identification,
)

DIRECTIONS = ("takagi2023", "braindiffuser")
RNG = np.random.default_rng(20)

# rows: reconstructions of a beach, a forest, a face, a dog; columns: their photographs
BY_HAND = np.array(
    [
        [0.9, 0.8, 0.1, 0.2],
        [0.9, 0.5, 0.3, np.nan],
        [0.2, 0.6, 0.4, 0.4],
        [0.1, 0.4, 0.4, 0.7],
    ]
)


def quick(r, direction="takagi2023", **settings):
    return identify(r, direction=direction, **({"n_bootstrap": 0, "n_permutations": 0} | settings))


def by_loop(r, direction, among):
    """Per-image accuracy from the definition."""
    per_image = []
    for i in range(len(r)):
        outcomes = []
        for j in range(len(r)):
            if j != i and among[i, j]:
                own = r[i, i]
                other = r[j, i] if direction == "takagi2023" else r[i, j]
                outcomes.append(1.0 if own > other else 0.5 if own == other else 0.0)
        per_image.append(np.mean(outcomes) if outcomes else np.nan)
    return np.array(per_image)


def test_identify_by_hand():
    # original fixed, down the columns. beach .9: ties with .9, beats .2, .1. forest .5: loses to .8
    # and .6, beats .4. face .4: beats .1 and .3, ties with .4. dog .7: beats .2 and .4, cannot beat
    # NaN.
    found = quick(BY_HAND)
    np.testing.assert_allclose(found.per_image, [2.5 / 3, 1 / 3, 2.5 / 3, 2 / 3])
    assert found.accuracy == pytest.approx(8 / 12)
    # reconstruction fixed, along the rows. beach .9: beats all. forest .5: loses to .9, beats .3,
    # not NaN. face .4: beats .2, loses to .6, ties with .4. dog .7: beats all.
    found = quick(BY_HAND, "braindiffuser")
    np.testing.assert_allclose(found.per_image, [1, 1 / 3, 1.5 / 3, 1])
    assert found.accuracy == pytest.approx(8.5 / 12)


def test_identify_among_some_by_hand():
    places = np.array([True, True, False, False])
    # beach against forest, face against dog
    found = quick(BY_HAND, among=places[:, None] == places)
    np.testing.assert_allclose(found.per_image, [0.5, 0, 0.5, 1])
    assert found.accuracy == 0.5 and found.n == 4
    alone = np.zeros((4, 4), dtype=bool)
    alone[0, 1:] = alone[1, 0] = (
        True  # not symmetric: the beach has three distractors, the forest one, others none
    )
    found = quick(BY_HAND, among=alone)
    np.testing.assert_allclose(found.per_image, [2.5 / 3, 0, np.nan, np.nan])
    assert found.accuracy == pytest.approx(2.5 / 6) and found.n == 2  # both count the same
    none = identify(BY_HAND, among=np.eye(4, dtype=bool), n_bootstrap=20, n_permutations=20)
    assert (
        none.n == 0
        and np.isnan([none.accuracy, *none.ci, none.p]).all()
        and np.isnan(none.per_image).all()
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_identify_is_the_loop(direction, seed):
    rng = np.random.default_rng(seed)
    r = rng.integers(0, 6, (15, 15)) / 5  # many ties
    r[rng.random(r.shape) < 0.05] = np.nan
    among = rng.random(r.shape) < 0.4
    among[3] = False
    everyone = np.ones(r.shape, dtype=bool)
    np.testing.assert_allclose(
        quick(r, direction, among=among).per_image, by_loop(r, direction, among)
    )
    np.testing.assert_allclose(quick(r, direction).per_image, by_loop(r, direction, everyone))
    assert quick(r, direction, among=among).accuracy == pytest.approx(
        np.nanmean(by_loop(r, direction, among))
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_mask_of_all_is_no_mask(direction):
    r = RNG.normal(size=(20, 20)) + np.eye(20)
    everyone = np.ones((20, 20), dtype=bool)
    free, masked = (
        identify(r, direction=direction, among=mask, n_bootstrap=500) for mask in (None, everyone)
    )
    assert free.accuracy == pytest.approx(masked.accuracy)
    np.testing.assert_allclose(free.ci, masked.ci)
    assert free.p == masked.p


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_p_is_over_pairings_within_the_parts_of_the_mask(direction):
    rng = np.random.default_rng(3)
    kinds = np.repeat([0, 1, 2], [4, 3, 1])
    r = rng.integers(0, 8, (8, 8)) / 8 + 0.3 * np.eye(8)
    among = (kinds[:, None] == kinds) & ~np.eye(8, dtype=bool)
    among[0, 1] = False  # still one part, by the others
    observed = np.nanmean(by_loop(r, direction, among))
    at_least = 0
    for _ in range(3000):
        pairing = np.concatenate([rng.permutation(4), 4 + rng.permutation(3), [7]])
        # what is fixed trades places; the candidates, and who may be whose distractor, stay
        permuted = r[pairing] if direction == "braindiffuser" else r[:, pairing]
        at_least += np.nanmean(by_loop(permuted, direction, among)) >= observed - 1e-9
    found = identify(r, direction=direction, among=among, n_bootstrap=0, n_permutations=3000)
    assert found.p == pytest.approx(at_least / 3000, abs=0.03)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_correlations_are_those_of_numpy(dtype, monkeypatch):
    monkeypatch.setattr(similarity, "_FEATURES_PER_BLOCK", 7)
    original = RNG.normal(size=(6, 30)).astype(dtype) + dtype(2)
    recon = (original[:, None] + RNG.normal(size=(6, 3, 30))).astype(dtype)
    r = correlations(recon, original)
    assert r.shape == (3, 6, 6) and r.dtype == np.float64
    for s in range(3):
        expected = np.corrcoef(recon[:, s].astype(float), original.astype(float))[:6, 6:]
        np.testing.assert_allclose(r[s], expected, atol=1e-13)
    np.testing.assert_array_equal(correlations(recon[:, 0], original), r[:1])
    broken = recon.copy()
    broken[1, 0] = 7.25
    broken[2, 1, 4] = np.nan
    broken[3, 2, 0] = np.inf
    found = correlations(broken, original)
    undefined = np.zeros((3, 6, 6), dtype=bool)
    undefined[[0, 1, 2], [1, 2, 3]] = True
    np.testing.assert_array_equal(np.isnan(found), undefined)
    np.testing.assert_array_equal(found[~undefined], r[~undefined])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_short_way_is_the_mean_over_samples(direction):
    original = RNG.normal(size=(15, 40))
    recon = original[:, None] + 3 * RNG.normal(size=(15, 5, 40))
    short = two_way_identification(recon, original, direction=direction)
    long = identify(choose(correlations(recon, original), "mean"), direction=direction)
    np.testing.assert_array_equal(short.per_image, long.per_image)
    assert (short.accuracy, short.ci, short.p) == (long.accuracy, long.ci, long.p)


def test_memory_maps_are_read_in_blocks(tmp_path):
    import tracemalloc

    n = 20
    d = 200_000
    original = np.memmap(tmp_path / "o", np.float16, "w+", shape=(n, d))
    recon = np.memmap(tmp_path / "r", np.float16, "w+", shape=(n, 5, d))
    original[:] = RNG.integers(0, 9, (n, d))
    recon[:] = original[:, None]
    tracemalloc.start()
    correlations(recon, original)
    two_way_identification(recon, original, n_bootstrap=0, n_permutations=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * d * 2  # less than the smaller input even once, in float16


def test_choose_by_hand():
    r = np.arange(12.0).reshape(3, 2, 2) / 10
    np.testing.assert_allclose(choose(r, "mean"), [[0.4, 0.5], [0.6, 0.7]])
    np.testing.assert_array_equal(choose(r, "single"), [[0, 0.1], [0.2, 0.3]])
    np.testing.assert_array_equal(choose(r, "decoded", [2, 1]), [[0.8, 0.9], [0.6, 0.7]])
    # own pairs: 0, .4, NaN and .3, 2, 1.1
    r[2, 0, 0] = np.nan
    r[1, 1, 1] = 2.0
    np.testing.assert_array_equal(choose(r, "oracle"), [[0.4, 0.5], [0.6, 2.0]])
    assert np.isnan(choose(r, "mean")[0, 0])


def test_the_oracle_is_never_worse_for_an_original_and_its_own():
    original = RNG.normal(size=(30, 20))
    r = correlations(original[:, None] + 3 * RNG.normal(size=(30, 5, 20)), original)
    assert (np.diagonal(choose(r, "oracle")) >= np.diagonal(r, axis1=1, axis2=2)).all()


def retrieved_by_loop(predicted, true, sets):
    cosine = 1 - cdist(predicted, true, "cosine")
    results = []
    for of in (cosine, cosine.T):
        results.append(
            np.mean(
                [[of[i, i] >= max(of[i, j] for j in members) for i in members] for members in sets]
            )
        )
    return results


def test_retrieval_is_the_loop():
    true = RNG.normal(size=(40, 12))
    predicted = true + 1.5 * RNG.normal(size=(40, 12))
    found = retrieval(predicted, true, n_candidates=10, repeats=7, n_bootstrap=0, rng=5)
    rng = np.random.default_rng(5)
    sets = [rng.permutation(40)[:10] for _ in range(7)]
    np.testing.assert_allclose([found.image, found.brain], retrieved_by_loop(predicted, true, sets))
    assert found.n_candidates == 10 and found.chance == 0.1 and np.isnan(found.image_ci).all()
    looked = np.bincount(np.concatenate(sets), minlength=40)
    assert np.isnan(found.per_image[looked == 0]).all() and looked.min() == 0
    np.testing.assert_allclose(
        np.nansum(found.per_image * looked[:, None], axis=0) / 70, [found.image, found.brain]
    )


def test_endless_repeats_are_what_many_repeats_tend_to():
    true = RNG.normal(size=(40, 12)).round(1)
    predicted = true + 1.5 * RNG.normal(size=(40, 12))
    true[3] = true[4]  # ties
    exact = retrieval(predicted, true, n_candidates=10, repeats=None, n_bootstrap=0)
    many = retrieval(predicted, true, n_candidates=10, repeats=4000, n_bootstrap=0)
    np.testing.assert_allclose([exact.image, exact.brain], [many.image, many.brain], atol=0.006)
    np.testing.assert_allclose(exact.per_image, many.per_image, atol=0.06)
    whole = [retrieval(predicted, true, repeats=repeats, n_bootstrap=0) for repeats in (None, 1)]
    np.testing.assert_allclose(whole[0].per_image, whole[1].per_image)
    assert whole[0].n_candidates == 40


def test_retrieval_by_hand():
    true = np.array([[1.0, 0], [0, 1], [1, 1]])
    predicted = np.array([[2.0, 1.9], [0, 3], [1, 1]])
    # cosines of brain 0 with pictures 0, 1, 2: .72, .69, .9997; brain 1: 0, 1, .71; brain 2: .71,
    # .71, 1
    found = retrieval(predicted, true, repeats=1, n_bootstrap=0)
    np.testing.assert_array_equal(found.per_image, [[0, 1], [1, 1], [1, 1]])
    assert found.image == pytest.approx(2 / 3) and found.brain == 1 and found.n_candidates == 3
    # brain 0 wins against picture 1 only
    pairs = retrieval(predicted, true, n_candidates=2, repeats=None, n_bootstrap=0)
    np.testing.assert_allclose(pairs.per_image[:, 0], [0.5, 1, 1])
    # three equal brains: each is right in a third of cases. A zero vector and a NaN are never
    # right, nor ever beaten
    same = retrieval(np.ones((3, 2)), true, repeats=1, n_bootstrap=0)
    np.testing.assert_allclose(same.per_image[:, 1], [1 / 3, 1 / 3, 1 / 3])
    failed = retrieval(np.array([[0.0, 0], [0, 3], [np.nan, 1]]), true, repeats=1, n_bootstrap=0)
    np.testing.assert_array_equal(failed.per_image, [[0, 0], [1, 0], [0, 0]])


def test_retrieval_interval():
    true = RNG.normal(size=(120, 20))
    found = retrieval(true + 1.4 * RNG.normal(size=(120, 20)), true, n_candidates=50)
    for value, (low, high) in ((found.image, found.image_ci), (found.brain, found.brain_ci)):
        assert 0 < low < value < high < 1 and high - low > 1.5 * np.sqrt(value * (1 - value) / 120)
    perfect = retrieval(true, true)
    assert perfect.image == perfect.brain == 1 and perfect.image_ci == (1, 1)


def test_retrieval_interval_covers():
    def study(n, seed):
        rng = np.random.default_rng(seed)
        true = rng.normal(size=(n, 20))
        return true + rng.normal(size=(n, 20)), true

    truth = retrieval(*study(1500, 10_000), n_candidates=30, repeats=None, n_bootstrap=0).image
    hits = 0
    for seed in range(200):
        low, high = retrieval(
            *study(80, seed), n_candidates=30, repeats=None, n_bootstrap=200, rng=seed
        ).image_ci
        hits += low <= truth <= high
    assert 0.7 < truth < 0.95 and 182 <= hits <= 198


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: identify(np.zeros((3, 4))), "identify: r must be"),
        (lambda: identify(np.zeros((1, 1))), "at least two images"),
        (lambda: identify(0.5), "identify: r must be"),
        (lambda: identify(np.eye(3), direction="both"), "direction must be"),
        (lambda: identify(np.eye(3), among=np.ones((2, 2), dtype=bool)), "among must be bool"),
        (lambda: identify(np.eye(3), among=np.ones((3, 3))), "found float64"),
        (lambda: correlations(np.zeros((3, 4)), np.zeros((3, 5))), "features must be"),
        (lambda: choose(np.zeros((3, 3)), "mean"), "samples, n, n"),
        (
            lambda: choose(np.zeros((2, 3, 3)), "best"),
            "rule must be mean, single, decoded or oracle",
        ),
        (lambda: choose(np.zeros((2, 3, 3)), "decoded"), "found none"),
        (lambda: choose(np.zeros((2, 3, 3)), "decoded", [0, 1, 2]), "found 0 to 2"),
        (lambda: choose(np.zeros((2, 3, 3)), "decoded", [0, 1]), "found int64 of shape"),
        (lambda: choose(np.zeros((2, 3, 3)), "decoded", [0.0, 1, 1]), "found float64"),
        (
            lambda: retrieval(np.zeros((3, 4)), np.zeros((3, 4)), n_candidates=1),
            "n_candidates must be 2 or more",
        ),
        (lambda: retrieval(np.zeros((3, 4)), np.zeros((3, 4)), repeats=0), "repeats 1 or more"),
    ],
)
def test_bad_input_is_refused(call, sentence):
    with pytest.raises(PhospheneError, match=sentence):
        call()
