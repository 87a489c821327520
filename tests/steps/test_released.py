"""The preset nsd-released against the regression of the authors' released script: scikit-learn and
himalaya.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from himalaya.backend import set_backend
from himalaya.ridge import RidgeCV as HimalayaRidgeCV
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phosphene.auditing import asking
from phosphene.numerics.ridge.estimator import PAPER_ALPHAS
from phosphene.steps.audit import _decoder
from phosphene.steps.decode import Decode
from phosphene.steps.decompose import Decompose
from phosphene.steps.regression import decompose, predict
from phosphene.study import Study
from support.environment import REPOSITORY

# most targets choose the largest penalty of the released grid
pytestmark = pytest.mark.filterwarnings("ignore:RidgeCV:UserWarning")

STUDIES = REPOSITORY / "studies"
RELEASED = Study.load(STUDIES / "nsd-released.toml")
N_TRAIN = 80
N_TEST = 30
N_VOXELS = 4
N_TARGETS = 60


class Drawn(NamedTuple):
    """Voxels (n_trials, n_voxels) and targets (n_images, n_targets) of pictures that are shown
    three times each.
    """

    data: Dataset
    X: np.ndarray
    Y: np.ndarray


class Dataset:
    """Trials in the order of the sessions."""

    subject = "subj01"
    photographs = True

    def __init__(self, images: np.ndarray, runs: np.ndarray) -> None:
        split = np.where(images < N_TRAIN, "train", "test")
        self.trials = pd.DataFrame({"image": images, "run": runs, "split": split})


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Collinear voxels, so that penalties up to 1 matter; targets far from 0, with noise that grows
    over the sessions.

    Means are up to 3 s.d.: beyond that every penalty is the largest, because without an intercept
    the mean is noise. Repeats of a picture are some sessions apart, so that plain folds part them.
    With this seed the second best penalty of every target is worse by 1e-5 of its score, so that
    rounding decides nothing.
    """
    random = np.random.default_rng(3)
    n = N_TRAIN + N_TEST
    pictures = random.permutation(n)
    time = np.repeat(np.arange(n), 3) + 0.2 * n * random.standard_normal(3 * n)
    images = np.repeat(pictures, 3)[np.argsort(time)]
    code = random.standard_normal((n, N_VOXELS))
    sizes = np.logspace(0, -1.1, N_VOXELS)
    mixing = np.linalg.qr(random.standard_normal((N_VOXELS, N_VOXELS)))[0]
    X = (code[images] + 0.1 * random.standard_normal((3 * n, N_VOXELS))) * sizes @ mixing
    X = X * random.uniform(0.5, 2, N_VOXELS) + random.uniform(-1, 1, N_VOXELS)
    signal = code @ random.standard_normal((N_VOXELS, N_TARGETS))
    noise = np.logspace(-2, 0.5, N_TARGETS) * random.standard_normal((n, N_TARGETS))
    Y = signal / signal.std(axis=0) + noise * np.exp(3 * np.argsort(pictures) / n)[:, None]
    means = random.permutation(np.linspace(0.5, 3, N_TARGETS)) * random.choice([-1, 1], N_TARGETS)
    Y = Y / Y.std(axis=0) + means
    runs = np.arange(3 * n) % 4
    return Drawn(Dataset(images, runs), X.astype(np.float32), Y.astype(np.float32))


@pytest.fixture(scope="module")
def script(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and penalties of the released script: its calls of scikit-learn and himalaya, in
    float32.
    """
    images = drawn.data.trials["image"].to_numpy()
    train = images < N_TRAIN
    means = np.stack(
        [drawn.X[images == image].mean(axis=0) for image in range(N_TRAIN, N_TRAIN + N_TEST)]
    )
    set_backend("numpy")
    ridge = HimalayaRidgeCV(alphas=[0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1, 1])
    pipeline = make_pipeline(StandardScaler(with_mean=True, with_std=True), ridge)
    pipeline.fit(drawn.X[train], drawn.Y[images[train]])
    return pipeline.predict(means), ridge.best_alphas_


def compare(
    study: Study, drawn: Drawn, script: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Return the largest difference of predictions, in s.d. of the targets, and the share of equal
    penalties.
    """
    parts = decompose(study, drawn.data, drawn.X)
    predicted = predict(study, drawn.data, drawn.X, drawn.Y, False, parts)
    prediction, alphas = script
    off = np.abs(predicted.prediction - prediction) / drawn.Y.std(axis=0)
    # himalaya keeps its penalties in float32
    return float(off.max()), float(np.isclose(predicted.alphas, alphas, rtol=1e-5).mean())


def test_the_preset_predicts_what_the_released_script_predicts(drawn, script):
    off, equal = compare(RELEASED, drawn, script)
    assert off < 1e-5
    assert equal == 1
    assert len(np.unique(script[1])) > 2  # the comparison of penalties is not one of constants


DEPARTURES = {
    "intercept": {"decode.intercept": True},
    "score": {"decode.scoring": "r2"},
    "grouped folds": {"decode.preset": "default", "decode.alphas": list(PAPER_ALPHAS)},
    "number of folds": {"decode.cv": 10},
    "raw voxels": {"decode.standardize": False},
    "nsd-paper": {"decode.intercept": True, "decode.scoring": "r2"},
}


@pytest.mark.parametrize("name", DEPARTURES)
def test_every_departure_from_the_script_is_seen(drawn, script, name):
    study = RELEASED
    for key, value in DEPARTURES[name].items():
        study = study.replace(key, value)
    off, equal = compare(study, drawn, script)
    assert off > 0.1
    assert equal < 1


def test_predictions_lack_the_mean_of_the_targets(drawn):
    """What is questionable about the script: its predictions are centred on 0, wherever the targets
    are.
    """
    predicted = predict(RELEASED, drawn.data, drawn.X, drawn.Y, False).prediction
    means = drawn.Y[:N_TRAIN].mean(axis=0)
    far = np.abs(means) > 2
    assert far.any()
    assert np.abs(predicted.mean(axis=0))[far].max() < 1


def test_without_an_intercept_far_targets_choose_the_largest_penalty(drawn):
    """What docs/released-code.md says of it: within the folds the mean of the targets is noise."""
    centred = drawn.Y - drawn.Y[:N_TRAIN].mean(axis=0)

    def share(intercept: bool, mean: float) -> float:
        study = RELEASED.replace("decode.intercept", intercept)
        alphas = predict(study, drawn.data, drawn.X, centred + np.float32(mean), False).alphas
        return float(np.mean(alphas == 1))

    assert share(False, 0) < 0.6
    assert share(False, 3) == 1
    assert share(True, 3) == pytest.approx(share(True, 0), abs=0.02)


def test_reliability_is_that_of_scaled_trials(drawn):
    """The noise ceiling does not depend on the mean or the unit of a voxel."""
    images = drawn.data.trials["image"].to_numpy()
    z = StandardScaler().fit(drawn.X[images < N_TRAIN]).transform(drawn.X)
    raw, scaled = (predict(RELEASED, drawn.data, X, drawn.Y, False) for X in (drawn.X, z))
    assert np.isfinite(raw.ceiling).all()
    np.testing.assert_allclose(raw.ceiling, scaled.ceiling, atol=1e-4)


def test_left_out_runs_are_scaled_by_the_others(drawn):
    """The trials of the run that is left out have no part in the scale of the voxels."""
    study = RELEASED.replace("decode.preset", "default").replace("decode.alphas", [10.0])
    study = study.replace("decode.leave_out", "run").replace("decode.cv", 2)
    data = Dataset(drawn.data.trials["image"].to_numpy(), drawn.data.trials["run"].to_numpy())
    data.photographs = False
    images = data.trials["image"].to_numpy()
    runs = data.trials["run"].to_numpy()
    predicted = predict(study, data, drawn.X, drawn.Y, False).prediction
    for run in np.unique(runs):
        rest = runs != run
        scaler = StandardScaler().fit(drawn.X[rest])
        ridge = Ridge(10.0, fit_intercept=False).fit(
            scaler.transform(drawn.X[rest]), drawn.Y[images[rest]]
        )
        np.testing.assert_allclose(
            predicted[~rest], ridge.predict(scaler.transform(drawn.X[~rest])), atol=1e-4
        )


@pytest.mark.parametrize("intercept", [True, False])
def test_held_out_clusters_are_judged_without_the_mean_that_was_taught(monkeypatch, intercept):
    """The audit takes that mean off predictions, which without an intercept never had it."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    targets = random.standard_normal((80, 5)) + 5 * labels[:, None]
    X = (targets @ random.standard_normal((5, 10)) + random.standard_normal((80, 10)) + 3).astype(
        np.float32
    )
    means = []

    def held_out(fit_predict, targets, labels):
        train = np.flatnonzero(labels == 1)
        means.append(fit_predict(train, train).mean(axis=0))
        return targets

    monkeypatch.setattr(asking.checks, "held_out", held_out)
    study = RELEASED.replace("decode.intercept", intercept)
    case = SimpleNamespace(
        decoder=_decoder(study, None),
        scoring=SimpleNamespace(n_bootstrap=study.evaluate.bootstrap),
        rng=lambda *_: np.random.default_rng(0),
    )
    asking._identified(case, X, targets, labels, "z")
    np.testing.assert_allclose(means[0], targets[labels == 1].mean(axis=0), atol=1e-4)


def test_the_presets_select_what_they_say():
    paper = Study.load(STUDIES / "nsd-paper.toml")
    for study in (RELEASED, paper):
        assert study.model.latent == "sample"
        # noise at 801, grey levels cut: tests/models/test_sampling.py
        assert study.reconstruct.sampler == "paper"
        assert study.reconstruct.same_noise and study.encode.same_noise
        assert study.reconstruct.samples == 5
        assert study.data.zscore == "none"
    assert RELEASED.settings("decode") == {
        "preset": "paper",
        "intercept": False,
        "scoring": "neg_mean_squared_error",
    }
    assert paper.settings("decode") == {"preset": "paper"}


def test_results_of_the_defaults_keep_their_names():
    rois = {"rois": ["early"]}
    assert Decompose(Study(), "subj01", ("early",)).settings() == rois
    assert Decode(Study(), "subj01", "z").settings() == rois
    own = {"preset": "paper", "intercept": False, "zscore": "none"} | rois
    # no score is needed for it
    assert Decompose(RELEASED, "subj01", ("early",)).settings() == own
    own["scoring"] = "neg_mean_squared_error"
    assert Decode(RELEASED, "subj01", "z").settings() == own
