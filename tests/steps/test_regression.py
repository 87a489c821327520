"""Which trials teach the regression: averages, groups, runs left out, and the shuffled control."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.steps.regression import _shuffle, folds, mean_features, predict
from phosphene.steps.subject import items
from phosphene.study import Study


class Known:
    """A made-up data set: 30 training and 10 test pictures, three times each, or 8 categories in 6
    runs.
    """

    subject = "subj01"

    def __init__(self, runs: bool = False) -> None:
        self.photographs = not runs
        if runs:
            images = np.tile(np.arange(8), 6)
            runs_of = np.repeat(np.arange(1, 7), 8)
        else:
            images = np.random.default_rng(0).permutation(np.repeat(10 * np.arange(40), 3))
            runs_of = np.ones(120, int)
        split = np.where(runs | (images < 300), "train", "test")
        self.trials = pd.DataFrame({"image": images, "run": runs_of, "split": split})


def study(**decode: object) -> Study:
    return Study.from_dict({"decode": {"alphas": [10.0], "cv": 3, **decode}})


def brain(data: Known) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    ids = image_ids(data)
    features = draw.standard_normal((len(ids), 5)).astype(np.float32)
    rows = np.searchsorted(ids, data.trials["image"])
    voxels = features[rows] @ draw.standard_normal((5, 20)) + 0.5 * draw.standard_normal(
        (len(rows), 20)
    )
    return voxels.astype(np.float32), features


def ridge(X: np.ndarray, Y: np.ndarray, tested: np.ndarray) -> np.ndarray:
    scale = StandardScaler().fit(X)
    return Ridge(10.0).fit(scale.transform(X), Y).predict(scale.transform(tested))


def test_test_pictures_are_predicted_from_the_mean_of_their_trials():
    data = Known()
    X, Y = brain(data)
    wanted = items(study(), data)
    assert (
        wanted["image"].tolist() == [10 * k for k in range(30, 40)]
        and (wanted["n_trials"] == 3).all()
    )
    got, alphas, _ = predict(study(), data, X, Y, shuffled=False)
    images = data.trials["image"].to_numpy()
    train = (data.trials["split"] == "train").to_numpy()
    means = np.stack([X[images == image].mean(0) for image in wanted["image"]])
    np.testing.assert_allclose(got, ridge(X[train], Y[images[train] // 10], means), atol=1e-4)
    assert (alphas == 10).all()


def test_the_ceiling_is_how_well_repeats_of_test_pictures_agree():
    data = Known()
    X, Y = brain(data)
    X += 2 * np.random.default_rng(2).standard_normal(X.shape).astype(np.float32)
    found = predict(study(), data, X, Y, shuffled=False)
    images = data.trials["image"].to_numpy()
    train = (data.trials["split"] == "train").to_numpy()
    single = ridge(X[train], Y[images[train] // 10], X[~train])
    trials = np.stack([single[images[~train] == image] for image in items(study(), data)["image"]])
    within = trials.var(axis=1, ddof=1).mean(0)
    between = 3 * trials.mean(1).var(axis=0, ddof=1)
    np.testing.assert_allclose(
        found.ceiling, np.sqrt(np.clip(1 - within / between, 0, 1)), atol=1e-3
    )
    assert ((0.5 < found.ceiling) & (found.ceiling < 1)).all()
    assert np.isnan(
        predict(study(leave_out="run"), Known(True), *brain(Known(True)), False).ceiling
    ).all()


def test_folds_keep_repeats_together_unless_they_are_told_not_to():
    data = Known()
    images = Known().trials.query("split == 'train'")["image"].to_numpy()
    for train, test in folds(study(), data):
        assert set(images[train]).isdisjoint(images[test]) and len(train) + len(test) == 90
    torn = folds(study(grouped=False), data)
    assert set(images[torn[0][0]]) & set(images[torn[0][1]])
    assert [t.tolist() for _, t in folds(study(preset="paper"), data)] == [
        t.tolist() for _, t in torn
    ]


@pytest.mark.parametrize("runs", [False, True])
def test_mean_features_are_those_of_the_trials_that_teach(runs):
    data = Known(runs)
    chosen = study(leave_out="run") if runs else study()
    _, Y = brain(data)
    got = mean_features(chosen, data, Y)
    wanted = items(chosen, data)
    rows = np.searchsorted(image_ids(data), data.trials["image"])
    for k, item in wanted.iterrows():
        teach = data.trials["run"] != item["run"] if runs else data.trials["split"] == "train"
        np.testing.assert_allclose(got[k], Y[rows[teach]].mean(0), atol=1e-6)
    assert len(got) == len(wanted)


def test_a_run_left_out_teaches_nothing_about_itself():
    data = Known(runs=True)
    X, Y = brain(data)
    left = study(leave_out="run")
    got, *_ = predict(left, data, X, Y, shuffled=False)
    images = data.trials["image"].to_numpy()
    runs = data.trials["run"].to_numpy()
    for run in range(1, 7):
        expected = ridge(X[runs != run], Y[images[runs != run]], X[runs == run])
        np.testing.assert_allclose(got[runs == run], expected, atol=1e-4)
    assert len(items(left, data)) == 48


@pytest.mark.parametrize("runs", [False, True])
def test_the_shuffled_control_knows_nothing(runs):
    data = Known(runs)
    X, Y = brain(data)
    chosen = study(leave_out="run") if runs else study()
    wanted = np.searchsorted(image_ids(data), items(chosen, data)["image"])
    honest, *_ = predict(chosen, data, X, Y, shuffled=False)
    blind, *_ = predict(chosen, data, X, Y, shuffled=True)
    assert np.corrcoef(honest.ravel(), Y[wanted].ravel())[0, 1] > 0.8
    assert abs(np.corrcoef(blind.ravel(), Y[wanted].ravel())[0, 1]) < 0.4


def test_shuffling_keeps_repeats_together_and_test_pictures_apart():
    data = Known()
    seen = np.searchsorted(image_ids(data), data.trials["image"])
    told = _shuffle(study(), data, seen)
    train = (data.trials["split"] == "train").to_numpy()
    assert (told[~train] == seen[~train]).all()
    assert (
        sorted(set(told[train])) == sorted(set(seen[train])) and (told != seen)[train].mean() > 0.8
    )
    pairs = set(zip(seen[train], told[train], strict=True))
    assert len(pairs) == 30  # every picture is swapped for one other, in all its repeats


def test_leaving_runs_out_is_refused_where_repeats_would_leak():
    with pytest.raises(PhospheneError, match="leave_out"):
        items(study(leave_out="run"), Known())
