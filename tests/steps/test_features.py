"""Features for encoding: their names, what a plain loop with diffusers gives, principal components,
kills.
"""

import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

import phosphene as ph
from phosphene.data.trials import image_ids
from phosphene.errors import PhospheneError
from phosphene.features.names import PLAIN, Feature, slug
from phosphene.models.diffusion import activations
from phosphene.models.diffusion.activations import Denoising, narrow, record
from phosphene.models.diffusion.configuration import LATENT, Configuration
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.sources import BUNDLED
from phosphene.numerics.pca import principal_components
from phosphene.pipeline.graph import make
from phosphene.pipeline.store import Artefact
from phosphene.seeds import rng
from phosphene.steps import features as stage
from phosphene.steps import reduce
from phosphene.steps import subject as shared
from phosphene.steps.features import Features, feature_steps
from phosphene.steps.reduce import reduced
from phosphene.steps.subject import dataset
from phosphene.study import Compute

KEEP = 16384  # up1 of the bundled model is wider
COMPUTE = Compute(device="cpu", threads=1, progress=False)  # small work: one thread is as fast
NAMES = (
    "zc@0.6",
    "zc@0.6/step=1",
    "unet/down1@0.6/step=2",
    "unet/mid@0.6/step=3",
    "unet/up1@0.6/step=1",
)
SIMULATED = {"enabled": True, "images_shared": 4, "images_own": 10, "repeats": 2, "sessions": 2}


def make_study(root: Path) -> ph.Study:
    values = {
        "data": {"root": "data", "simulate": SIMULATED},
        "reconstruct": {"steps": 5, "guidance": 3.0},
    }
    return ph.Study.from_dict(values, root=root / "runs", folder=root)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("features"))


def features(study: ph.Study, names: Sequence[str], compute: Compute = COMPUTE) -> list[Artefact]:
    """Features of the subject, finished."""
    return make(feature_steps(study, "subj01", names), compute)


def components(study: ph.Study, names: Sequence[str], most: int) -> list[Artefact]:
    """Principal components of features, finished."""
    return make([reduced(study, "subj01", Feature.parse(name), most) for name in names], COMPUTE)


def beside(study: ph.Study, folder: Path) -> ph.Study:
    """The same study with results of its own, but for z and c."""
    (folder / "data").symlink_to(study.data_root)
    shutil.copytree(study.root / "extract", folder / "runs/extract")
    return make_study(folder)


@pytest.fixture(scope="module")
def model():
    return LatentDiffusion.load("bundled", "cpu")


@pytest.fixture(autouse=True)
def narrower(monkeypatch):
    monkeypatch.setattr(stage, "KEEP", KEEP)


@pytest.fixture(scope="module")
def made(study):
    """One uninterrupted run, four parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "IMAGES_PER_PART", 4)
        patch.setattr(stage, "KEEP", KEEP)
        return features(study, NAMES)


# ---- names
# --------------------------------------------------------------------------------------------------


strengths = st.floats(0, 1, exclude_min=True)
steps = st.integers(1, 500)
layer_names = st.one_of(
    st.just("mid"), st.builds("{}{}".format, st.sampled_from(["down", "up"]), st.integers(0, 9))
)
any_feature = st.one_of(
    st.builds(Feature, st.sampled_from(PLAIN)),
    st.builds(
        Feature,
        st.sampled_from(["zc", "zc:empty", "zc:other", "zc:own-noise"]),
        strengths,
        st.none() | steps,
    ),
    st.builds(Feature, st.just("unet"), strengths, steps, layer_names),
)


@given(any_feature)
def test_a_name_gives_the_feature_back(feature):
    assert Feature.parse(str(feature)) == feature


@given(any_feature, any_feature)
def test_different_features_have_different_names_and_folders(a, b):
    assert (str(a) == str(b)) == (slug(a) == slug(b)) == (a == b)


@pytest.mark.parametrize(
    "name",
    [
        *PLAIN,
        "zc@0.5",
        "zc@1",
        "zc:empty@0.8",
        "zc@0.8/step=20",
        "unet/down1@0.8/step=20",
        "unet/mid@0.05/step=1",
    ],
)
def test_names_of_the_documentation_are_canonical(name):
    assert str(Feature.parse(name)) == name


def test_other_spellings_are_the_same_feature():
    assert Feature.parse("zc@.50/step=02") == Feature.parse("zc@0.5/step=2")
    assert str(Feature.parse("zc@1.0")) == "zc@1"


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_a_sentence(text):
    try:
        assert Feature.parse(str(Feature.parse(text))) == Feature.parse(text)
    except PhospheneError as error:
        assert repr(text) in str(error) and "zc@0.8/step=20" in str(error)


WRONG = [
    "x",
    "",
    " z",
    "zc",
    "z@0.5",
    "c:category@0.5",
    "zc@0",
    "zc@1.5",
    "zc@1e-1",
    "zc@٠.٥",
    "zc@0.5/step=0",
]
WRONG += ["zc:empty", "zc:none@0.5", "unet:other/mid@0.5/step=1"]
WRONG += [
    "zc@0.5/step=-1",
    "unet/mid",
    "unet/mid@0.5",
    "unet/top@0.5/step=1",
    "unet/mid1@0.5/step=1",
]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_names_are_refused(name):
    with pytest.raises(PhospheneError, match="no such name; expected z, c"):
        Feature.parse(name)


@pytest.mark.parametrize(
    "values",
    [("zc",), ("z", 0.5), ("unet", 0.5, 1), ("zc", 0.5, 1, "mid"), ("zc", float("nan")), ("q",)],
)
def test_features_that_have_no_name_cannot_be_made(values):
    with pytest.raises(PhospheneError, match="no such name"):
        Feature(*values)


# ---- activations
# --------------------------------------------------------------------------------------------------


# the seed of the noise that all pictures start from
SHARED = int(rng(0, "noise", 0).integers(2**62))


def plain_loop(model, images, captions, seeds, n_steps, strength, guidance):
    """The same written with diffusers alone: every latent, and what every block gave in the
    conditional half.
    """
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_pretrained(BUNDLED / "scheduler")
    scheduler.set_timesteps(n_steps)
    visited = scheduler.timesteps[n_steps - int(n_steps * strength) :]
    unet = model.unet
    blocks = {}
    given = {}
    found = {}
    blocks |= {f"down{k}": block for k, block in enumerate(unet.down_blocks)} | {
        "mid": unet.mid_block
    }
    blocks |= {f"up{k}": block for k, block in enumerate(unet.up_blocks)}

    def keep(name):
        return lambda module, inputs, output: given.update(
            {name: output[0] if name.startswith("down") else output}
        )

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        z = model.vae.encode(pixels).latent_dist.mean * model.vae.config.scaling_factor
        words = [
            model.tokenizer(
                group,
                padding="max_length",
                max_length=model.context_shape[0],
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for group in [[""], *captions]
        ]
        empty, *contexts = [
            model.text(ids).last_hidden_state.mean(0, keepdim=True) for ids in words
        ]
        noise = np.stack(
            [
                np.random.default_rng(seed).standard_normal(model.latent_shape(), np.float32)
                for seed in seeds
            ]
        )
        x = scheduler.add_noise(z, torch.from_numpy(noise), visited[:1])
        for k, t in enumerate(visited, start=1):
            without = unet(x, t, empty.expand(len(x), -1, -1)).sample
            with_context = unet(x, t, torch.cat(contexts)).sample  # the hooks keep this call
            found |= {(name, k): value.flatten(1).numpy() for name, value in given.items()}
            x = scheduler.step(without + guidance * (with_context - without), t, x).prev_sample
            found[LATENT, k] = x.flatten(1).numpy()
    for hook in hooks:
        hook.remove()
    return found


def test_features_are_those_of_a_plain_loop_with_hooks(study, model, made):
    data = dataset(study, "subj01")
    ids = image_ids(data)
    theirs = plain_loop(
        model, data.images(ids), data.captions(ids), [SHARED] * len(ids), 5, 0.6, 3.0
    )
    for artefact, moment in zip(
        made[:4], [(LATENT, 3), (LATENT, 1), ("down1", 2), ("mid", 3)], strict=True
    ):
        ours = artefact.array("features")
        assert ours.dtype == np.float16 and ours.shape == theirs[moment].shape
        error = np.abs(ours[:] - theirs[moment])
        assert error.max() <= 2e-3 * np.abs(theirs[moment]).max(), moment
    narrowed = narrow(
        torch.from_numpy(theirs["up1", 1]), KEEP
    ).numpy()  # 32,768 numbers are more than are kept
    assert theirs["up1", 1].shape[1] == made[4].manifest["facts"]["full_width"] == 2 * KEEP
    assert np.abs(made[4].array("features")[:] - narrowed).max() <= 2e-3 * np.abs(narrowed).max()


@pytest.mark.parametrize("kind", ["zc:empty", "zc:other", "zc:own-noise"])
def test_controls_are_those_of_a_plain_loop(study, model, kind):
    data = dataset(study, "subj01")
    ids = image_ids(data)
    seeds = [SHARED] * len(ids)
    texts = data.captions(ids)
    guidance = 3.0
    if kind == "zc:empty":
        texts = [[""]] * len(ids)
        guidance = 1.0
    elif kind == "zc:other":
        half = len(ids) // 2
        texts = texts[half:] + texts[:half]
        assert not any(one == other for one, other in zip(texts, data.captions(ids), strict=True))
    else:
        seeds = [int(rng(0, "subj01", int(image), 0, 0).integers(2**62)) for image in ids]
    theirs = plain_loop(model, data.images(ids), texts, seeds, 5, 0.6, guidance)[LATENT, 3]
    ours = features(study, [f"{kind}@0.6"])[0].array("features")[:]
    assert np.abs(ours - theirs).max() <= 2e-3 * np.abs(theirs).max()


def test_controls_and_layers_together_are_those_of_separate_passes(study, made, tmp_path):
    names = ["zc@0.6", "zc:empty@0.6", "zc:other@0.6", "zc:own-noise@0.6", "unet/mid@0.6/step=3"]
    together = features(beside(study, tmp_path), names)
    apart = [features(study, [name])[0] for name in names]
    rows = [artefact.array("features")[:] for artefact in together]
    for one, artefact in zip(rows, apart, strict=True):
        assert np.array_equal(one, artefact.array("features")[:])
    assert not any(np.array_equal(rows[k], rows[j]) for k in range(4) for j in range(k))


def test_empty_text_depends_on_neither_captions_nor_guidance(study):
    other = study.replace("reconstruct.guidance", 7.0)
    for kind, same in (("zc:empty", True), ("zc:other", False), ("zc", False)):
        hashes = {
            Features(one, "subj01", Feature.parse(f"{kind}@0.6")).hash for one in (study, other)
        }
        assert (len(hashes) == 1) == same
    assert "c" not in Features(study, "subj01", Feature.parse("zc:empty@0.6")).inputs()


def test_the_setting_decides_whose_noise_zc_starts_from(study, made):
    own = study.replace("encode.same_noise", False)
    zc, control = features(own, ["zc@0.6", "zc:own-noise@0.6"])
    # named as before there was a choice
    assert zc.hash != made[0].hash and "noise" not in zc.recipe.settings
    assert np.array_equal(zc.array("features")[:], control.array("features")[:])
    assert not np.array_equal(zc.array("features")[:], made[0].array("features")[:])


def test_steps_that_are_not_needed_are_not_made(model):
    calls = []
    hook = model.unet.register_forward_hook(lambda *_: calls.append(1))
    z = np.zeros((1, 1024), np.float32)
    c = model.text_to_context([["a cat"]])
    record(model, z, c, [0], Denoising(0.5, 20), {("mid", 4), (LATENT, 3)}, 16384)
    hook.remove()
    assert len(calls) == 4 and not model.unet.mid_block._forward_hooks


def test_neither_batch_nor_parts_nor_neighbours_change_a_bit(study, made, model, tmp_path):
    # and one part in place of four
    again = features(
        beside(study, tmp_path), NAMES, Compute("cpu", batch=5, threads=1, progress=False)
    )
    for artefact, one in zip(made, again, strict=True):
        assert artefact.hash == one.hash and np.array_equal(
            artefact.array("features")[:], one.array("features")[:]
        )
    z = np.random.default_rng(0).standard_normal((9, 1024), np.float32)
    c = model.text_to_context([["a cat"]] * 9)
    moments = {("mid", 1), (LATENT, 2)}
    how = Denoising(0.5, 4)
    few, two = (
        record(model, z[:n], c[:n], range(n), how, moments, KEEP) for n in (model.batch(), 2)
    )
    # more than the block of a CPU: within float16
    many = record(model, z, c, range(9), how, moments, KEEP)
    for moment in moments:
        assert np.array_equal(few[moment][:2], two[moment])
        np.testing.assert_allclose(
            many[moment][:2], two[moment], atol=1e-3 * np.abs(two[moment]).max()
        )


def test_compiled_networks_are_watched_as_they_are(model):
    z = np.zeros((1, 1024), np.float32)
    c = model.text_to_context([["a cat"]])
    plain = record(model, z, c, [0], Denoising(0.5, 4), {("mid", 1)}, 16384)
    model.unet._compiled_call_impl = compiled = lambda *_: pytest.fail("compiled code was called")
    try:
        again = record(model, z, c, [0], Denoising(0.5, 4), {("mid", 1)}, 16384)
        assert model.unet._compiled_call_impl is compiled
    finally:
        model.unet._compiled_call_impl = None
    assert np.array_equal(plain["mid", 1], again["mid", 1])


def test_another_seed_gives_other_noise(study, made):
    other = features(study.replace("seed", 1), NAMES[1:2])[0]
    difference = other.array("features")[:].astype(float) - made[1].array("features")[:]
    assert other.hash != made[1].hash and np.abs(difference).mean() > 0.1


def test_narrowed_rows_keep_their_dot_products():
    draw = np.random.default_rng(0)
    mixed = draw.standard_normal((40, 6)) @ draw.standard_normal((6, 50000)) + draw.standard_normal(
        (40, 50000)
    )
    whole = mixed.astype(np.float32) + 3  # a mean that all rows share
    ours = narrow(torch.from_numpy(whole), 8192).numpy()
    assert ours.shape == (40, 8192)
    assert np.array_equal(ours[7], narrow(torch.from_numpy(whole[7:8]), 8192).numpy()[0])
    products = whole.astype(float) @ whole.T
    error = (ours.astype(float) @ ours.T) * 50000 / 8192 - products
    norms = np.linalg.norm(whole.astype(float), axis=1)
    assert (np.abs(error) / np.outer(norms, norms)).max() < 5 / 8192**0.5
    assert np.array_equal(narrow(torch.ones(1, 5), 8).numpy(), np.ones((1, 5)))


# ---- the stage
# --------------------------------------------------------------------------------------------------


def test_z_and_c_are_those_that_decoding_predicts(study, model):
    data = dataset(study, "subj01")
    ids = image_ids(data)[:5].tolist()
    z, c, category, segmentation = features(study, PLAIN)
    assert z.recipe.stage == c.recipe.stage == "extract"
    np.testing.assert_allclose(
        z.array("features")[:5], model.image_to_latent(data.images(ids)), atol=1e-3
    )
    np.testing.assert_allclose(
        c.array("features")[:5], model.text_to_context(data.captions(ids)), atol=1e-3
    )
    words = [[", ".join(dict.fromkeys(names))] for names in data.categories(ids)]
    np.testing.assert_allclose(
        category.array("features")[:5], model.text_to_context(words), atol=1e-2
    )
    maps = data.segmentation(ids, model.size)
    np.testing.assert_allclose(
        segmentation.array("features")[:5], model.image_to_latent(maps), atol=1e-2
    )


def test_what_is_not_there_is_refused_before_anything_is_written(study, monkeypatch):
    before = sorted(study.root.rglob("*"))
    for name, said in [
        ("unet/down7@0.6/step=1", "choose one of down0, down1, down2, mid"),
        ("zc@0.6/step=4", "makes 3 steps"),
        ("zc@0.1", "makes 0 steps"),
    ]:
        with pytest.raises(PhospheneError, match=said):
            features(study, ["z", name])
    with pytest.raises(PhospheneError, match="choose one of down0, down1, down2, mid"):
        components(study, ["unet/down7@0.6/step=1"], 6)
    monkeypatch.setattr(shared, "dataset", lambda *_: object())
    with pytest.raises(PhospheneError, match="no semantic maps"):
        features(study.replace("model.latent_size", 32), ["z:segmentation"])
    assert sorted(study.root.rglob("*")) == before


@pytest.mark.parametrize("name", ["z", "c", "c:category", "zc@0.6"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(study, tmp_path, name):
    (tmp_path / "data").symlink_to(study.data_root)
    elsewhere = make_study(tmp_path)
    with pytest.raises(PhospheneError, match="cuda:7"):
        features(elsewhere, [name], Compute(device="cuda:7", progress=False))
    assert not list((tmp_path / "runs").rglob("*.json"))


def test_features_of_one_strength_come_out_of_one_pass(study, made, tmp_path, monkeypatch):
    calls = []

    def noted(model, z, c, seeds, how, wanted, keep):
        calls.append((how.strength, len(z), len(wanted)))
        return {
            moment: np.zeros((len(z), Configuration.of("bundled").widths[moment[0]]))
            for moment in wanted
        }

    monkeypatch.setattr(activations, "record", noted)
    names = [
        "zc@0.6",
        "unet/mid@0.6/step=1",
        "zc@0.4/step=1",
        "unet/mid@0.6/step=2",
        "zc@0.4/step=2",
        "zc@0.4",
    ]
    found = features(beside(study, tmp_path), names)
    assert sum(n for _, n, _ in calls) == 2 * 14
    # "zc@0.4" is its last step
    assert {(strength, wanted) for strength, _, wanted in calls} == {
        (0.6, 3),
        (0.4, 2),
    }
    assert [artefact.recipe.settings["feature"] for artefact in found] == names


def test_numbers_that_float16_cannot_hold_are_refused(study, made, tmp_path, monkeypatch):
    too_large = {(LATENT, 3): np.full((1, 1024), 1e5, np.float32)}
    monkeypatch.setattr(activations, "record", lambda *_: too_large)
    with pytest.raises(PhospheneError, match="zc@0.6.*65504"):
        features(beside(study, tmp_path), ["zc@0.6"])


KILLED = """
import sys
from pathlib import Path
from test_features import KEEP, NAMES, features, make_study, stage
stage.IMAGES_PER_PART, stage.KEEP = 4, KEEP
features(make_study(Path(sys.argv[1])), NAMES)
"""


def test_killed_and_resumed_it_gives_the_same_bits(
    study, made, tmp_path, start_python, monkeypatch
):
    beside(study, tmp_path)
    process = start_python(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{KILLED}", tmp_path
    )
    while process.poll() is None and not any(
        (tmp_path / "runs").glob("features/subj01-zc*/parts/1.json")
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.communicate()
    first = next((tmp_path / "runs").glob("features/subj01-zc-0.6-*/features/c/0/0"))
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(stage, "IMAGES_PER_PART", 4)
    again = features(make_study(tmp_path), NAMES)
    assert first.stat().st_mtime_ns == stamp, "a finished part was made again"
    assert [contents(a) for a in again] == [contents(a) for a in made]


def contents(artefact) -> dict[str, bytes]:
    files = (
        file for file in artefact.path.rglob("*") if file.is_file() and file.name != "manifest.json"
    )
    return {str(file.relative_to(artefact.path)): file.read_bytes() for file in files}


def test_features_asked_for_later_are_added_and_the_rest_is_left(study, made, monkeypatch):
    monkeypatch.setattr(stage, "IMAGES_PER_PART", 4)
    before = {
        f: f.stat().st_mtime_ns
        for artefact in made
        for f in artefact.path.rglob("*")
        if f.is_file()
    }
    features(study, [*NAMES, "unet/up0@0.6/step=2"])
    assert before == {f: f.stat().st_mtime_ns for f in before}


# ---- principal components
# ------------------------------------------------------------------------------------------


def draw_rows(n: int, d: int) -> np.ndarray:
    """Rows with a spectrum that falls off, and a mean."""
    draw = np.random.default_rng(n + d)
    return (draw.standard_normal((n, 40)) * 0.8 ** np.arange(40)) @ draw.standard_normal(
        (40, d)
    ) + 2


@pytest.mark.parametrize(("n", "d"), [(60, 3000), (300, 90)], ids=["more columns", "more rows"])
def test_components_equal_those_of_scikit_learn(n, d):
    rows = draw_rows(n, d)
    fitted = np.arange(n) % 3 > 0
    theirs = PCA(20, svd_solver="full").fit(rows[fitted])
    ours = principal_components(rows, fitted, 20)
    found = (rows[fitted] - ours.mean).T @ ours.values[fitted]  # X' u, up to length
    assert subspace_angles(found, theirs.components_.T).max() < 1e-6
    scores = theirs.transform(rows)
    signs = np.sign((scores * ours.values).sum(0))
    np.testing.assert_allclose(ours.values * signs, scores, atol=1e-6 * np.abs(scores).max())
    np.testing.assert_allclose(ours.mean, theirs.mean_)
    np.testing.assert_allclose(ours.variance, theirs.explained_variance_)
    np.testing.assert_allclose(ours.ratio, theirs.explained_variance_ratio_)


@pytest.mark.parametrize(("n", "d"), [(60, 3000), (300, 90)], ids=["more columns", "more rows"])
def test_components_know_only_the_rows_they_are_fitted_on(n, d):
    rows = draw_rows(n, d)
    fitted = np.arange(n) % 3 > 0
    other = np.where(fitted[:, None], rows, 7 - rows)
    ours = principal_components(rows, fitted, 20)
    changed = principal_components(other, fitted, 20)
    assert np.array_equal(ours.mean, changed.mean) and np.allclose(
        ours.variance, changed.variance, rtol=1e-12
    )
    np.testing.assert_allclose(ours.values[fitted], changed.values[fitted], atol=1e-9)
    assert not np.allclose(ours.values[~fitted], changed.values[~fitted])


def test_rows_that_say_the_same_twice_have_no_more_components():
    rows = np.repeat(draw_rows(6, 50), 5, axis=0)
    ours = principal_components(rows, np.ones(30, bool), 12)
    assert (ours.variance[5:] == 0).all() and np.abs(ours.values[:, 5:]).max() < 1e-6
    assert principal_components(rows, np.ones(30, bool), 10**6).values.shape == (30, 29)


def test_reduced_features_are_components_of_training_pictures(study, made, monkeypatch):
    for module in (stage, reduce):
        monkeypatch.setattr(module, "IMAGES_PER_PART", 4)
    data = dataset(study, "subj01")
    fitted = np.isin(image_ids(data), data.trials.loc[data.trials["split"] == "train", "image"])
    assert fitted.sum() == 10
    for source, artefact in zip(made, components(study, NAMES, 6), strict=True):
        rows = source.array("features")[:].astype(float)
        theirs = PCA(6, svd_solver="full").fit(rows[fitted])
        ours = artefact.array("features")[:].astype(float)
        assert artefact.array("features").dtype == np.float16
        found = (rows[fitted] - artefact.array("mean")[:]).T @ ours[fitted]
        assert subspace_angles(found, theirs.components_.T).max() <= 1e-2
        scores = theirs.transform(rows)
        error = ours * np.sign((scores * ours).sum(0)) - scores
        assert (
            np.linalg.norm(error, axis=0) <= 1e-3 * np.linalg.norm(scores, axis=0)
        ).all()  # float16 loses nothing
        np.testing.assert_allclose(
            artefact.array("ratio")[:], theirs.explained_variance_ratio_, rtol=1e-6
        )


def test_what_is_reduced_needs_the_features_no_more(study, made, tmp_path):
    other = beside(study, tmp_path)
    other = other.replace("encode.components", 6)  # wider features are needed only in between
    before = components(other, ["zc@0.6/step=1"], 6)
    shutil.rmtree(tmp_path / "runs/features")
    assert components(other, ["zc@0.6/step=1"], 6) == before
    assert not (tmp_path / "runs/features").exists()


def test_features_that_are_narrow_already_are_left_alone(study, made, monkeypatch):
    for module in (stage, reduce):
        monkeypatch.setattr(module, "IMAGES_PER_PART", 4)
    assert components(study, NAMES[:1], reduce.COMPONENTS)[0] == made[0]
    few = components(study, NAMES[:1], 100)[0]
    assert few.array("features").shape == (14, 9)  # no more than training pictures less one


def test_without_training_pictures_there_are_no_components(study, monkeypatch):
    monkeypatch.setattr(reduce, "_training", lambda data: np.zeros(14, bool))
    with pytest.raises(PhospheneError, match="found 0 training pictures"):
        components(study, NAMES, 5)
