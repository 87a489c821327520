"""Known truths of maps: null brains stay empty, the known brain's regions and planted layers are
found.
"""

from __future__ import annotations

from functools import cache
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from threadpoolctl import threadpool_limits

import phosphene as ph
from phosphene import encoding
from phosphene.data.simulated import simulate
from phosphene.data.simulated.brain import KnownBrain, draw_anatomy, draw_brain
from phosphene.data.simulated.scenes import captions, render, sample_scene
from phosphene.encoding.design import Design
from phosphene.encoding.fitting import Voxels, fit_block
from phosphene.encoding.models import mixes
from phosphene.maps import best_layer
from phosphene.models.diffusion.activations import Denoising, record
from phosphene.numerics import pca, stats
from phosphene.numerics.ridge import Decomposition, RidgeCV
from phosphene.pipeline.graph import make
from phosphene.steps.encode import Encode, maps
from phosphene.steps.subject import load_model
from phosphene.study import Compute

# null voxels choose the largest penalty, as they should
pytestmark = pytest.mark.filterwarnings("ignore:RidgeCV")
QUIET = Compute(progress=False)
MODEL = RidgeCV(np.logspace(-1, 5, 7), cv=5, fit_intercept=False, standardize=False)
ONE = np.ones((1, 1))  # the only mix of one space
NULL = {
    "data": {
        "root": "data",
        "simulate": {
            "enabled": True,
            "images_shared": 40,
            "images_own": 80,
            "repeats": 2,
            "sessions": 2,
        },
    },
    "encode": {"components": 40},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


@cache
def known_brain():
    return draw_brain(draw_anatomy(0, "subj01"), 0, "subj01")


class Shuffled(KnownBrain):
    """A brain that answers to other pictures than those it is shown."""

    def respond(self, scenes, pictures):
        answers = super().respond(scenes, pictures)
        return answers[np.random.default_rng(0).permutation(len(answers))]


# A null brain through the whole stage


@pytest.fixture(scope="module")
def null_maps(tmp_path_factory):
    """Maps of a subject on disk: session by session simulated, standardised, averaged, fitted,
    tested.
    """
    folder = tmp_path_factory.mktemp("null")
    with mock.patch.object(simulate, "draw_brain", lambda *_: Shuffled(**vars(known_brain()))):
        study = ph.Study.from_dict(NULL, root=folder / "runs", folder=folder)
        found = {}
        for name in "zc":
            model = encoding.Model.of(name)
            make([Encode(study, "subj01", model)], QUIET)
            found[name] = maps(study, "subj01", model).dropna(subset=["r"])
    return found


@pytest.mark.parametrize("space", ["z", "c"])
def test_nothing_is_found_in_a_null_brain(null_maps, space):
    table = null_maps[space]
    assert len(table) > 5000 and (table["q"] >= 0.05).all()
    assert table["r"].mean() == pytest.approx(0, abs=0.02)
    for level, tolerance in ((0.5, 0.04), (0.05, 0.015), (0.01, 0.006)):
        assert (table["p"] < level).mean() == pytest.approx(level, abs=tolerance)


@pytest.mark.parametrize("space", ["z", "c"])
def test_a_negative_correlation_is_no_evidence(null_maps, space):
    table = null_maps[space]
    assert (table["r"] < -0.2).sum() > 100  # a two-sided p would be small there
    np.testing.assert_array_equal(table["p"] > 0.5, table["r"] < 0)


# Many small null brains, by the code that fits blocks of voxels

N_BRAINS = 100
N_TRAIN = 60
N_TEST = 30
N_EACH = 60


@pytest.fixture(scope="module")
def brains():
    """p of 100 brains: four kinds of voxels, those that are driven by the pictures and three kinds
    that are not.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_TRAIN + N_TEST, 15)).astype(np.float32)
    x[:, :5] += 2 * rng.normal(size=(len(x), 1))  # features that vary together
    known = one_space(x, N_TRAIN)
    made = MODEL.decompose(known.train[0])
    p = []
    for _ in range(N_BRAINS):
        answers = x @ rng.normal(size=(15, N_EACH))
        white = rng.normal(size=answers.shape)
        smooth = gaussian_filter(rng.normal(size=(len(x), 5, 12)), (0, 1, 1), mode="wrap").reshape(
            len(x), -1
        )
        ongoing = answers[rng.permutation(len(x))] + rng.normal(size=answers.shape)
        driven = answers + 8 * rng.normal(size=answers.shape)
        p.append(
            stats.correlation_p(
                mapped(known, made, np.hstack([white, smooth, ongoing, driven]))["r"], N_TEST
            )
        )
    return np.array(p).reshape(N_BRAINS, 4, N_EACH)


def one_space(x: np.ndarray, n_train: int) -> Design:
    x = x - x[:n_train].mean(axis=0)
    x = (x / np.sqrt((x[:n_train] ** 2).sum() / n_train)).astype(np.float32)
    return Design([x[:n_train]], [x[n_train:]], np.ones(n_train))


def mapped(known: Design, made: Decomposition, responses: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of responses (n_train + n_test, v), each picture shown once."""
    n = len(known.weights)
    centred = responses - responses[:n].mean(axis=0)
    voxels = Voxels(centred[:n].astype(np.float32), centred[n:], np.ones(responses.shape[1], bool))
    return fit_block(known, voxels, ONE, MODEL, lambda _: made)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_few_null_brains_have_any_discovery(brains, kind):
    p = brains[:, kind]
    # of 100; more than 10 happen in 1 % of such tests
    assert sum((stats.fdr_bh(one) < 0.05).any() for one in p) <= 10
    # one voxel per brain
    assert kstest(p[np.arange(N_BRAINS), np.arange(N_BRAINS) % N_EACH], "uniform").pvalue > 0.01


def test_false_discoveries_are_as_rare_as_stated(brains):
    """Four of five voxels are null; without correction 22 % of the discoveries would be false."""
    null = brains[:, :3].reshape(N_BRAINS, -1)
    driven = brains[:, 3, :45]
    found = np.array([stats.fdr_bh(one) < 0.05 for one in np.hstack([null, driven])])
    false = found[:, : null.shape[1]].sum(axis=1)
    true = found[:, null.shape[1] :].sum(axis=1)
    assert true.mean() > 0.3 * driven.shape[1]
    assert 0.02 < (false / np.maximum(false + true, 1)).mean() < 0.055


# The bundled model and the known brain

N_SCENES = 400
N_TAUGHT = 300


@pytest.fixture(scope="module")
def seen():
    """Scenes, and what the bundled model makes of them."""
    rng = np.random.default_rng(0)
    model = load_model("bundled", QUIET.device)
    scenes = [sample_scene(rng) for _ in range(N_SCENES)]
    pictures = np.array([render(scene, model.size) for scene in scenes])
    z = model.image_to_latent(pictures)
    c = model.text_to_context([captions(scene, 2) for scene in scenes])
    return scenes, pictures, {"z": z, "c": c}


def components(rows: np.ndarray, k: int) -> np.ndarray:
    return pca.principal_components(rows, np.arange(len(rows)) < N_TAUGHT, k).values


def test_where_z_and_c_differ_clearly_the_known_brain_is_what_it_is(seen):
    """Early voxels are driven by what pictures look like, ventral and lateral ones by what is in
    them.
    """
    scenes, pictures, features = seen
    brain = known_brain()
    stream = brain.voxels["stream"][brain.active].to_numpy()
    some = np.concatenate(
        [np.flatnonzero(stream == name)[::3] for name in ("early", "ventral", "lateral")]
    )
    answers = brain.respond(scenes, pictures)[:, some]
    # a noise ceiling of 50 %
    responses = answers + np.random.default_rng(1).normal(size=answers.shape)
    found = {}
    for name, rows in features.items():
        known = one_space(components(rows, 150), N_TAUGHT)
        found[name] = mapped(known, MODEL.decompose(known.train[0]), responses)
    q = [stats.fdr_bh(stats.correlation_p(one["r"], N_SCENES - N_TAUGHT)) for one in found.values()]
    truth = responses[N_TAUGHT:]
    significant = np.min(q, axis=0) < 0.05
    compared = stats.difference_of_correlations(
        found["z"]["prediction"], found["c"]["prediction"], truth
    )
    decided = significant & (stats.fdr_bh(np.where(significant, compared.p_t, np.nan)) < 0.05)
    early = stream[some] == "early"
    for region, sign in ((early, 1), (~early, -1)):
        right = sign * compared.difference > 0
        assert (decided & region).sum() > 20
        assert right[decided & region].mean() > 0.95 and right[significant & region].mean() > 0.7


@pytest.fixture(scope="module")
def unique_of_zc(seen):
    """What zc adds to z in ventral voxels of the known brain: mean R², by noise, strength and
    text.
    """
    scenes, pictures, features = seen
    z = features["z"]
    c = features["c"]
    brain = known_brain()
    some = np.flatnonzero(brain.voxels["stream"][brain.active].to_numpy() == "ventral")[::3]
    answers = brain.respond(scenes, pictures)[:, some]
    responses = answers + 0.5 * np.random.default_rng(1).normal(size=answers.shape)
    centred = responses - responses[:N_TAUGHT].mean(axis=0)
    voxels = Voxels(
        centred[:N_TAUGHT].astype(np.float32), centred[N_TAUGHT:], np.ones(len(some), bool)
    )
    alone = one_space(components(z, 150), N_TAUGHT)
    without_text = np.repeat(
        load_model("bundled", QUIET.device).text_to_context([[""]]), N_SCENES, axis=0
    )
    shared = [0] * N_SCENES
    own = list(range(N_SCENES))
    made = {
        "weak": denoised(z, c, shared, 0.4),
        "strong": denoised(z, c, shared, 0.8),
        "other text": denoised(z, np.roll(c, 1, axis=0), shared, 0.8),
        "own noise": denoised(z, c, own, 0.8),
        "empty text": denoised(z, without_text, shared, 0.8, guidance=1.0),
    }
    spaces = {name: one_space(components(rows, 150), N_TAUGHT) for name, rows in made.items()}
    pairs = {name: (alone, zc) for name, zc in spaces.items()}
    pairs["strong over empty text"] = spaces["empty text"], spaces["strong"]
    found = {}
    for name, (first, second) in pairs.items():
        known = Design(first.train + second.train, first.test + second.test, alone.weights)
        parts = [MODEL.decompose(known.mixed(mix, known.train)) for mix in mixes(2, 3)]
        found[name] = fit_block(known, voxels, mixes(2, 3), MODEL, parts.__getitem__)["unique"][
            1
        ].mean()
    return found


def denoised(
    z: np.ndarray, c: np.ndarray, seeds: list[int], strength: float, guidance: float = 5.0
) -> np.ndarray:
    """Latents after the last step, of four that a whole schedule has."""
    model = load_model("bundled", QUIET.device)
    how = Denoising(strength, 4, guidance)
    last = int(4 * strength)
    blocks = [slice(start, start + model.batch()) for start in range(0, len(z), model.batch())]
    return np.concatenate(
        [
            record(model, z[k], c[k], seeds[k], how, {("latent", last)}, 4096)["latent", last]
            for k in blocks
        ]
    )


def test_under_one_noise_text_is_read_by_a_linear_model_the_more_the_noisier(unique_of_zc):
    """Figure 7, with its controls: separate noise for each picture, another picture's text, empty
    text.
    """
    assert unique_of_zc["strong"] > 0.02
    assert unique_of_zc["strong"] > unique_of_zc["weak"] + 0.01
    assert abs(unique_of_zc["other text"]) < 0.006
    assert unique_of_zc["own noise"] < unique_of_zc["strong"] / 3
    assert unique_of_zc["strong over empty text"] > 0.02
    # the U-Net as an expansion of z
    assert unique_of_zc["empty text"] < unique_of_zc["strong"] - 0.01


def test_layers_that_were_planted_are_found(seen):
    _, _, features = seen
    model = load_model("bundled", QUIET.device)
    n = 150
    n_taught = 110
    wanted = ("down0", "mid", "up2")
    rng = np.random.default_rng(2)
    how = Denoising(strength=0.5, steps=8)
    rows = {name: [] for name in wanted}
    for start in range(0, n, model.batch()):
        part = slice(start, min(start + model.batch(), n))
        made = record(
            model,
            features["z"][part],
            features["c"][part],
            list(range(n))[part],
            how,
            {(name, 1) for name in wanted},
            4096,
        )
        for name in wanted:
            rows[name].append(made[name, 1])
    drive = {name: np.concatenate(parts) for name, parts in rows.items()}
    planted = np.arange(90) % len(wanted)
    scores = [pca.principal_components(x, np.ones(n, bool), 20).values for x in drive.values()]
    answers = np.stack(
        [(scores[k] / scores[k].std(axis=0)) @ rng.normal(size=20) for k in planted], axis=1
    )
    responses = answers / answers.std(axis=0) + 0.5 * rng.normal(size=answers.shape)
    tables = {}
    for name, x in drive.items():
        scored = pca.principal_components(x, np.arange(n) < n_taught, 80).values
        known = one_space(scored, n_taught)
        r = mapped(known, MODEL.decompose(known.train[0]), responses)["r"]
        q = stats.fdr_bh(stats.correlation_p(r, n - n_taught))
        places = np.zeros(len(r), int)
        tables[name] = pd.DataFrame(
            {"x": np.arange(len(r)), "y": places, "z": places, "r": r, "q": q}
        )
    best = best_layer(tables)
    clear = best["q"] < 0.05
    assert clear.mean() > 0.5
    assert (best["best"] == planted)[clear].mean() > 0.9
