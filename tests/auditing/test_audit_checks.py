"""The arithmetic of the audit, against hand cases and independent oracles."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from phosphene.auditing import checks
from phosphene.numerics.identification import identify


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


# overlap


def test_similarities_are_pearson_correlations_however_candidates_are_cut(monkeypatch):
    queries = rows(7, 40)
    candidates = rows(23, 40, 1) + 5
    monkeypatch.setattr(checks, "ROWS", 5)
    expected = np.corrcoef(queries, candidates)[:7, 7:]
    np.testing.assert_allclose(checks.similarities(queries, candidates), expected, atol=1e-6)


def test_a_constant_row_is_similar_to_nothing():
    candidates = rows(4, 10)
    candidates[2] = 0.1  # its mean is not exactly 0.1
    r = checks.similarities(rows(3, 10, 1), candidates)
    assert np.isnan(r[:, 2]).all() and np.isfinite(np.delete(r, 2, axis=1)).all()
    assert (checks.nearest(r).row != 2).all()


def test_the_nearest_of_pictures_among_themselves_is_another_one():
    values = rows(30, 12)
    best = checks.nearest(checks.similarities(values, values), exclude=np.arange(30))
    r = np.corrcoef(values)
    np.fill_diagonal(r, -2)
    assert (best.row == r.argmax(axis=1)).all()
    np.testing.assert_allclose(best.r, r.max(axis=1), atol=1e-6)


def test_nothing_is_nearest_where_all_is_undefined():
    best = checks.nearest([[np.nan, np.nan], [0.5, np.nan]])
    assert np.isnan(best.r[0]) and best.row[1] == 0 and best.r[1] == 0.5


def test_share_beyond_a_percentile_by_hand():
    reference = np.arange(1, 101) / 100
    assert checks.share_beyond([0.98, 0.999, 1.0, np.nan], reference, 99) == pytest.approx(2 / 3)


def test_equal_pictures_are_found_whatever_they_are_called():
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    almost = pictures[1].copy()
    almost[0, 0, 0] ^= 1
    assert checks.same_contents(pictures[:3], [pictures[4], pictures[2], almost, pictures[2]]) == [
        (2, 1),
        (2, 3),
    ]
    # the same bytes, not the same shape
    assert checks.same_contents([pictures[0]], [pictures[0].reshape(4, 16, 3)]) == []


# collapse


def test_effective_dimension_is_the_participation_ratio_of_principal_components():
    values = rows(50, 300) * np.geomspace(1, 0.01, 300)
    variance = PCA().fit(values).explained_variance_
    assert checks.effective_dimension(values) == pytest.approx(
        variance.sum() ** 2 / (variance**2).sum()
    )


def test_effective_dimension_by_hand():
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]])
    assert checks.effective_dimension(square) == pytest.approx(2)
    assert checks.effective_dimension(square * [1, 0]) == pytest.approx(1)
    assert checks.effective_dimension(1e-30 * square + 0) == pytest.approx(2)
    assert checks.effective_dimension(np.full((4, 3), 0.1)) == pytest.approx(0)


def test_spread_leaves_out_features_that_never_vary():
    predicted = np.array([[1, 0, 3.0], [-1, 0, -3]])
    assert checks.spread(predicted, [2, 0, 3]) == pytest.approx(0.75)  # of 0.5 and 1


def test_moments_of_some_rows_in_blocks(monkeypatch):
    monkeypatch.setattr(checks, "ROWS", 4)
    values = rows(19, 6) + 1e4
    values[:, 3] = 7.7
    chosen = np.array([0, 3, 4, 11, 18])
    mean, sd = checks.moments(values, chosen)
    np.testing.assert_allclose(mean, values[chosen].mean(0))
    np.testing.assert_allclose(np.delete(sd, 3), np.delete(values[chosen].std(0), 3), rtol=1e-6)
    assert sd[3] == 0


# penalties and folds


def test_shares_at_the_edges_of_the_grid():
    assert checks.share_at_edges([1, 1, 10, 100], [100, 1, 10]) == (0.5, 0.25)
    assert checks.share_at_edges([1.0], [1.0]) == (0, 0)


def test_pictures_on_both_sides_of_a_fold():
    images = np.array([5, 5, 7, 7, 9])
    whole = [(np.array([2, 3, 4]), np.array([0, 1])), (np.array([0, 1]), np.array([2, 3, 4]))]
    torn = [(np.array([0, 2, 3, 4]), np.array([1]))]
    assert checks.split_images(whole, images).tolist() == []
    assert checks.split_images(whole + torn, images).tolist() == [5]


# rescaling


def predictions(n: int = 100, d: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shrunk predictions of a few hidden causes, and the moments of what they predict."""
    causes = rows(n, 6)
    weights = np.random.default_rng(1).standard_normal((6, d)) * np.random.default_rng(2).uniform(
        0.3, 1, d
    )
    return causes @ weights * 0.5 + 3, np.full(d, 3.0), np.sqrt((weights**2).sum(0) + 0.5)


def test_honest_predictions_are_off_by_chance_and_unevenly_shrunk():
    found = checks.rescaling(*predictions())
    assert 0.2 < found.mean_off < 2 and found.sd_uneven > 0.05 and 0.2 < found.sd_ratio < 0.6


@pytest.mark.parametrize("ddof", [0, 1])
def test_rescaled_predictions_have_the_moments_to_the_last_digit(ddof):
    predicted, mean, sd = predictions()
    score = (predicted - predicted.mean(0)) / predicted.std(0, ddof=ddof)
    found = checks.rescaling((score * sd + mean).astype(np.float32), mean, sd)
    assert found.mean_off < 1e-4 and found.sd_uneven < 1e-4


def test_shifting_alone_is_seen_in_the_means_alone():
    predicted, mean, sd = predictions()
    found = checks.rescaling(predicted - predicted.mean(0) + mean, mean, sd)
    assert found.mean_off < 1e-9 and found.sd_uneven > 0.05


def test_rescaling_of_predictions_that_never_vary_is_not_known():
    assert np.isnan(checks.rescaling(np.ones((5, 3)), np.ones(3), np.ones(3))).all()


# clusters


def test_clusters_are_found_and_components_are_those_of_pca():
    truth = np.repeat([0, 1, 2], 20)
    values = rows(60, 50) + 30 * np.eye(50)[truth]
    components, labels = checks.clusters(values, 3, 10, seed=0)
    assert len({(a, b) for a, b in zip(truth, labels, strict=True)}) == 3
    expected = PCA(10, svd_solver="full").fit_transform(values.astype(np.float32))
    np.testing.assert_allclose(abs(components[:, :2]), abs(expected[:, :2]), rtol=1e-3, atol=1e-2)


def test_random_sets_have_the_sizes_of_the_clusters():
    labels = np.array([0, 0, 0, 1, 2, 2])
    drawn = checks.same_sizes(labels, np.random.default_rng(0))
    assert sorted(drawn) == sorted(labels) and (drawn != labels).any()


def test_what_is_held_out_is_never_taught():
    labels = np.array([0, 1, 0, 2, 1])
    targets = rows(5, 3)
    taught = []

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        taught.append((set(train.tolist()), set(test.tolist())))
        return targets[train].mean(0) + np.ones((len(test), 3))

    found = checks.held_out(fit_predict, targets, labels)
    assert taught == [({1, 3, 4}, {0, 2}), ({0, 2, 3}, {1, 4}), ({0, 1, 2, 4}, {3})]
    np.testing.assert_allclose(found, 1)  # the taught mean is taken off


def test_a_brain_that_only_knows_kinds_is_found_out_by_clusters_held_out():
    truth = np.repeat(np.arange(8), 25)
    centres = 5 * rows(8, 30)
    within = rows(200, 30, 1)
    knows_kinds = np.hstack([np.eye(8)[truth], 0.1 * rows(200, 8, 2)])
    knows_all = centres[truth] + within
    found = {}
    for name, brain in (("kinds", knows_kinds), ("all", knows_all)):
        for split, sets in (
            ("clusters", truth),
            ("random", checks.same_sizes(truth, np.random.default_rng(0))),
        ):
            targets = centres[truth] + within - (centres[truth] + within).mean(0)
            made = checks.held_out(
                lambda a, b, X=brain, Y=targets: Ridge(1.0).fit(X[a], Y[a]).predict(X[b]),
                targets,
                sets,
            )
            r = np.corrcoef(made, targets)[:200, 200:]
            found[name, split] = identify(
                r, direction="braindiffuser", n_bootstrap=0, n_permutations=0
            ).accuracy
    assert found["kinds", "random"] > 0.9 > 0.65 > found["kinds", "clusters"]
    assert found["all", "random"] > 0.95 and found["all", "clusters"] > 0.95


def test_same_first_names():
    same = checks.first_names([["cat", "house"], ["cat"], [], ["house"], []])
    assert (
        same.tolist()
        == np.array(
            [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [0, 0, 0, 1, 0], [0] * 5], bool
        ).tolist()
    )
