"""Scores of anyone's pictures against plain loops written from the definitions, and what the
command says of them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import correlation
from skimage.metrics import structural_similarity
from typer.testing import CliRunner

from phosphene.cli import score
from phosphene.data.simulated import scenes
from phosphene.errors import PhospheneError
from phosphene.metrics.measures import Draws
from phosphene.metrics.presets import PRESETS, Metric, Preset, own_selection
from phosphene.metrics.score import COLUMNS, GENERAL, score_pictures, score_sets
from phosphene.metrics.views import RULES
from phosphene.models.perceptual.extraction import features
from phosphene.models.perceptual.weights import wanted
from phosphene.numerics.identification import two_way_identification
from phosphene.seeds import rng
from support.environment import REPOSITORY

N = 8
S = 2
SIDE = 64  # at which pixels are compared, so that the oracle need not resize
FEW = Draws(50, 50)
DIRECTIONS = ("takagi2023", "braindiffuser")
OPTIONS = ("--by-order", "--weights", "--cache", "--csv", "--html", "--json")


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("PHOSPHENE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "huggingface"))


@pytest.fixture(scope="module")
def originals():
    return np.stack(
        [scenes.render(scenes.sample_scene(np.random.default_rng([5, k])), SIDE) for k in range(N)]
    )


@pytest.fixture(scope="module")
def recons(originals):
    """(n, samples, side, side, 3): blurred and noisy, so that some comparisons are lost."""
    random = np.random.default_rng(0)
    made = np.empty((N, S, SIDE, SIDE, 3), np.uint8)
    for k in range(N):
        for s in range(S):
            noise = gaussian_filter(random.standard_normal((SIDE, SIDE, 3)), (6, 6, 0))
            blurred = gaussian_filter(originals[k].astype(float), (5, 5, 0))
            made[k, s] = np.clip(blurred + 130 * noise / noise.std(), 0, 255)
    return made


@pytest.fixture(scope="module")
def pixel(recons, originals):
    return score_sets(recons, originals, "pixel", draws=FEW, chosen=CHOSEN)


CHOSEN = np.arange(N) % S


def value(found, metric: str, selection: str, direction: str | None = None) -> float:
    some = found.scores[
        (found.scores["metric"] == metric) & (found.scores["selection"] == selection)
    ]
    some = some if direction is None else some[some["direction"] == direction]
    assert len(some) == 1
    return float(some["value"].iloc[0])


def r(a, b) -> float:
    return float(np.corrcoef(np.ravel(a).astype(float), np.ravel(b).astype(float))[0, 1])


def loop(recons, originals, direction: str, selection: str) -> float:
    """Two-way identification in pixels as the papers define it, picture by picture."""
    similarity = np.array(
        [[[r(recons[i, s], originals[j]) for j in range(N)] for i in range(N)] for s in range(S)]
    )
    picked = np.empty((N, N))
    for i in range(N):
        sample = {
            "single": 0,
            "decoded": CHOSEN[i],
            "oracle": int(np.argmax(similarity[:, i, i])),
        }.get(selection)
        picked[i] = similarity[:, i].mean(axis=0) if sample is None else similarity[sample, i]
    won = 0.0
    for i in range(N):
        for j in range(N):
            if i != j:
                other = picked[j, i] if direction == "takagi2023" else picked[i, j]
                won += 1.0 if picked[i, i] > other else 0.5 if picked[i, i] == other else 0.0
    return won / (N * (N - 1))


@pytest.mark.parametrize("selection", ["mean", "single", "decoded", "oracle"])
def test_identification_is_the_loop(pixel, recons, originals, selection):
    expected = [loop(recons, originals, direction, selection) for direction in DIRECTIONS]
    assert any(0.55 < e < 1 for e in expected)
    found = [value(pixel, "pixels", selection, direction) for direction in DIRECTIONS]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("metric", ["PixCorr", "SSIM"])
def test_pixel_measures_are_the_loop(pixel, recons, originals, metric):
    def resized(picture):
        return (
            np.asarray(Image.fromarray(picture).resize((425, 425), Image.Resampling.BICUBIC)) / 255
        )

    def ssim(a, b):
        gray = [x @ (0.2125, 0.7154, 0.0721) for x in (a, b)]
        return structural_similarity(
            *gray, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        )

    measure = r if metric == "PixCorr" else ssim
    shown = [resized(picture) for picture in originals]
    values = np.array(
        [[measure(resized(recons[k, s]), shown[k]) for k in range(N)] for s in range(S)]
    )
    expected = {
        "mean": values.mean(),
        "single": values[0].mean(),
        "oracle": values.max(axis=0).mean(),
        "decoded": values[CHOSEN, np.arange(N)].mean(),
    }
    found = {selection: value(pixel, metric, selection) for selection in expected}
    assert found == pytest.approx(expected, abs=1e-6)
    own = own_selection(pixel.per_image)
    np.testing.assert_allclose(
        own[own["metric"] == metric]["value"], values.mean(axis=0), atol=1e-6
    )


def test_rows_say_everything_and_images_average_to_them(pixel):
    assert list(pixel.scores.columns) == COLUMNS and pixel.absent == {}
    assert (pixel.scores["n"] == N).all() and (pixel.scores["samples"] == S).all()
    keys = ["metric", "selection", "direction"]
    means = pixel.per_image.groupby(keys, dropna=False, sort=False)["value"].mean()
    ours = pixel.scores.set_index(keys)["value"]
    np.testing.assert_allclose(means.to_numpy(), ours.to_numpy(), atol=1e-12)
    assert (pixel.scores["ci_low"] <= pixel.scores["value"]).all()
    assert (pixel.scores["value"] <= pixel.scores["ci_high"]).all()
    two_way = pixel.scores["kind"] == "two-way"
    assert (pixel.scores["chance"][two_way] == 0.5).all() and pixel.scores["p"][two_way].between(
        0, 1
    ).all()
    assert pixel.scores["p"][~two_way].isna().all()
    assert pixel.names == [str(k) for k in range(N)]


def test_one_sample_has_one_rule_the_presets_own(recons, originals):
    found = score_pictures([recons[:, 0]], originals, ["braindiffuser", "pixel"], draws=FEW)
    rules = found.scores.groupby("preset")["selection"].unique().map(list).to_dict()
    assert rules == {"braindiffuser": ["single"], "pixel": ["mean"]}
    assert len(own_selection(found.scores)) == len(found.scores)
    assert set(found.absent) == {
        f"braindiffuser/{m}" for m in ("Alex(2)", "Alex(5)", "Inc", "CLIP", "Eff", "SwAV")
    }
    assert all("alexnet-owt" in found.absent[f"braindiffuser/Alex({k})"] for k in (2, 5))


def test_scenes_keep_the_random_numbers_of_older_studies(recons, originals):
    draws = Draws(50, 50, seed=3, keys=("subj01", "evaluate"))
    found = score_pictures([recons[:, s] for s in range(S)], originals, ["scenes"], draws=draws)
    own = own_selection(found.scores)
    assert len(own) == 8
    for row in own.itertuples():
        space = next(m.space for m in PRESETS["scenes"].metrics if m.name == row.metric)
        shown, made = (
            features(p, [space])[space] for p in (originals, recons.reshape(-1, SIDE, SIDE, 3))
        )
        expected = two_way_identification(
            made.reshape(N, S, -1),
            shown,
            direction=row.direction,
            n_bootstrap=50,
            n_permutations=50,
            rng=rng(3, "subj01", "evaluate", row.metric, row.direction),
        )
        assert (row.value, row.ci_low, row.ci_high, row.p) == (
            expected.accuracy,
            *expected.ci,
            expected.p,
        )


def test_distance_is_scipys(recons, originals, monkeypatch):
    space = next(m.space for m in PRESETS["pixel"].metrics if m.name == "pixels")
    monkeypatch.setitem(
        PRESETS, "far", Preset("far", "this test", "single", (Metric("Far", "distance", space),))
    )
    found = score_pictures(
        [recons[:, s] for s in range(S)], originals, ["far"], draws=Draws(50, 400)
    )
    d = np.array(
        [
            [
                [correlation(np.ravel(a) / 255, np.ravel(b) / 255) for b in originals]
                for a in recons[:, s]
            ]
            for s in range(S)
        ]
    )
    own = np.diagonal(d, axis1=1, axis2=2)
    expected = {"single": own[0].mean(), "mean": own.mean(), "oracle": own.min(axis=0).mean()}
    assert {rule: value(found, "Far", rule) for rule in expected} == pytest.approx(
        expected, abs=1e-5
    )
    single = found.scores.set_index("selection").loc["single"]
    assert single["chance"] == pytest.approx(d[0].mean(), abs=1e-5) and single["better"] == "lower"
    pairings = np.array(
        [d[0][np.arange(N), np.random.default_rng(k).permutation(N)].mean() for k in range(4000)]
    )
    assert single["p"] == pytest.approx((pairings <= own[0].mean()).mean(), abs=0.03)


# Corners


def test_a_collapsed_decoder_gains_nothing(originals):
    flat = np.full((N, SIDE, SIDE, 3), 127, np.uint8)
    found = score_pictures([flat], originals, ["pixel"], draws=FEW)
    values = found.scores.set_index(["metric", "direction"])["value"]
    assert values[("pixels", "takagi2023")] == values[("pixels", "braindiffuser")] == 0
    assert value(found, "PixCorr", "mean") == 0
    same = np.repeat(originals[:1], N, axis=0)  # not flat, but the same picture for everybody
    tied = score_pictures([same], originals, ["pixel"], draws=FEW)
    assert value(tied, "pixels", "mean", "takagi2023") == 0.5


def test_perfect_and_shuffled(originals):
    found = score_pictures([originals], originals, ["pixel"], draws=Draws(50, 200))
    assert (found.scores["value"][found.scores["kind"] == "two-way"] == 1).all()
    assert value(found, "PixCorr", "mean") == pytest.approx(1)
    moved = score_pictures(
        [np.roll(originals, 1, axis=0)], originals, ["scenes"], draws=Draws(50, 200)
    )
    assert moved.scores["value"][moved.scores["kind"] == "two-way"].between(0.2, 0.8).all()


def test_wrong_numbers_and_names_are_refused(recons, originals):
    for made, shown, presets, words in [
        ([recons[:, 0]], originals[:5], ["pixel"], "found 8 reconstructions for 5 originals"),
        ([], originals, ["pixel"], "found no reconstructions"),
        ([recons[:1, 0]], originals[:1], ["pixel"], "needs two or more"),
        ([recons[:, 0]], originals, ["pixels"], "preset: found 'pixels', expected all"),
        ([recons[:, 0]], originals, [], "preset: found none"),
    ]:
        with pytest.raises(PhospheneError, match=words):
            score_pictures(made, shown, presets)
    assert "scenes" not in GENERAL and len(GENERAL) == len(PRESETS) - 1


# The command


@pytest.fixture(scope="module")
def folders(tmp_path_factory, recons, originals):
    root = tmp_path_factory.mktemp("folders")
    for name in ("r", "o"):
        (root / name).mkdir()
    for k in range(N):
        Image.fromarray(originals[k]).save(root / "o" / f"shared{k}.png")
        for s in range(S):
            Image.fromarray(recons[k, s]).save(root / "r" / f"shared{k}_{s}.png")
    return root


def run(*words):
    app = typer.Typer()
    app.command("score")(score.score)
    app.command("compare")(score.compare)
    return CliRunner().invoke(app, [str(word) for word in words])


QUICK = ("--bootstrap", 50, "--permutations", 50, "--device", "cpu")


def test_a_tensor_scores_as_its_pngs_do(folders, recons, originals, tmp_path):
    tensor = torch.from_numpy(recons).permute(0, 1, 4, 2, 3)
    torch.save(tensor, tmp_path / "r.pt")
    torch.save(torch.from_numpy(originals).permute(0, 3, 1, 2).float() / 255, tmp_path / "o.pt")
    png = score_sets(folders / "r", folders / "o", "scenes", draws=FEW, chosen=CHOSEN)
    for made, shown in ((tmp_path / "r.pt", folders / "o"), (recons, originals)):
        other = score_sets(made, shown, "scenes", draws=FEW, chosen=CHOSEN)
        pd.testing.assert_frame_equal(png.scores, other.scores)
    floats = score_sets(tmp_path / "r.pt", tmp_path / "o.pt", "scenes", draws=FEW, chosen=CHOSEN)
    pd.testing.assert_frame_equal(png.scores, floats.scores, rtol=1e-4)
    assert png.names == [f"shared{k}" for k in range(N)]


def test_score_says_and_writes_everything(folders, tmp_path):
    csv = tmp_path / "s.csv"
    html = tmp_path / "s.html"
    done = run(
        "score",
        folders / "r",
        folders / "o",
        "--preset",
        "pixel,braindiffuser",
        "--csv",
        csv,
        "--html",
        html,
        *QUICK,
    )
    assert done.exit_code == 0, done.output
    assert f"{N} pictures, {S} samples each, mean over samples" in done.output
    assert f"{N} pictures, {S} samples each, first sample" in done.output
    for word in (
        "PixCorr",
        "takagi2023",
        "braindiffuser",
        "95 % interval",
        "oracle",
        "chosen by looking",
    ):
        assert word in done.output
    absent = done.output[done.output.index("Absent") :]
    assert (
        "braindiffuser/Alex(2), braindiffuser/Alex(5)" in absent
        and "alexnet-owt-7be5be79.pth" in absent
    )
    assert max(len(line) for line in done.output.splitlines() if "Written" not in line) <= 100
    written = pd.read_csv(csv)
    assert list(written.columns) == COLUMNS and set(written["preset"]) == {"pixel", "braindiffuser"}
    page = html.read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * N and "http-equiv" not in page
    assert 'src="http' not in page and "<script" not in page and "href=" not in page
    for row in own_selection(written).itertuples():
        shown = f"{100 * row.value:.1f}" if row.kind == "two-way" else f"{row.value:.3f}"
        assert f'<td class="value">{shown}</td>' in page


def test_json_holds_every_picture(folders):
    done = run("score", folders / "r", folders / "o", "--preset", "pixel", "--json", *QUICK)
    found = json.loads(done.stdout)
    assert found["names"] == [f"shared{k}" for k in range(N)] and found["absent"] == []
    assert found["presets"] == {"pixel": {"source": PRESETS["pixel"].source, "selection": "mean"}}
    assert "torch" in found["versions"] and set(found["scores"][0]) == set(COLUMNS)
    assert len(found["per_image"]) == len(found["scores"])
    for images, row in zip(found["per_image"], found["scores"], strict=True):
        assert all(
            images[key] == row[key] for key in ("preset", "metric", "direction", "selection")
        )
        assert np.mean(images["values"]) == pytest.approx(row["value"], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "takagi"), "preset: found 'takagi'"),
        (("--preset", "takagi2023"), "nothing could be scored. alexnet: found no"),
        (("--csv", "nowhere/s.csv"), "cannot be written"),
        (("--html", "."), "cannot be written"),
    ],
)
def test_errors_are_one_sentence(folders, words, said):
    done = run("score", folders / "r", folders / "o", *words, *QUICK)
    assert done.exit_code == 1 and done.output.startswith("Error: ") and said in done.output
    assert "Traceback" not in done.output


def test_notes_are_said_and_kept(folders, tmp_path):
    for name in ("r", "o"):
        (tmp_path / name).mkdir()
        for k in range(3):
            Image.open(folders / "o" / f"shared{k}.png").convert(
                "L" if name == "r" else "RGB"
            ).save(tmp_path / name / f"{k}.png")
    done = run("score", tmp_path / "r", tmp_path / "o", "--preset", "pixel", "--json", *QUICK)
    assert "3 of 3 pictures are grey" in done.stderr
    assert "3 of 3 pictures are grey" in json.loads(done.stdout)["notes"][0]


def test_the_page_of_documentation_names_every_preset_rule_and_file():
    page = (REPOSITORY / "docs" / "scoring.md").read_text(encoding="utf-8")
    networks = {m.space.network for name in GENERAL for m in PRESETS[name].metrics if m.space} - {
        "formula"
    }
    files = [Path(file) for network in networks for file in wanted(network).files[0]]
    words = [*PRESETS, *RULES, *DIRECTIONS, *(file.name for file in files), *OPTIONS]
    assert (
        len(files) == 7
        and [word for word in words if f"`{word}" not in page and f"{word} " not in page] == []
    )
