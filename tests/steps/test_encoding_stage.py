"""Encoding models of a small simulated study: maps, files and figures."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import phosphene as ph
from phosphene.cli.app import app
from phosphene.data.scans import Scans
from phosphene.encoding import Model
from phosphene.errors import PhospheneError
from phosphene.numerics import correlation
from phosphene.pipeline.graph import make
from phosphene.pipeline.step import Step
from phosphene.steps import figures, subject
from phosphene.steps.encode import (
    Encode,
    Measured,
    agreement,
    differences,
    maps,
    model_steps,
    planned,
    preferences,
    regions,
)
from phosphene.steps.report import noise_ceiling
from phosphene.steps.subject import dataset
from phosphene.study import Compute

STUDY = """
name = "small"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 12
images_own = 48
repeats = 2
sessions = 2
[encode]
components = 40
mixes = 2
"""
QUIET = Compute(progress=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoding")
    (folder / "small.toml").write_text(STUDY)
    return ph.Study.load(folder / "small.toml", root=folder / "runs")


@pytest.fixture(scope="module")
def joint(study):
    return ph.encode(study, ["z", "c"], QUIET, joint=True)


def test_maps_have_a_row_for_every_voxel(study, joint):
    data = dataset(study, "subj01")
    assert isinstance(data, Scans)
    assert len(joint) == len(data.select("brain"))
    spaces = [f"{name} {space}" for name in ("unique", "product", "mix") for space in ("z", "c")]
    assert {"x", "y", "z", "ncsnr", "r", "r2", "p", "q", "alpha", "ceiling", *spaces} <= set(
        joint.columns
    )
    known = joint["r"].notna()
    assert (
        known.mean() > 0.95
        and joint.loc[known, "p"].between(0, 1).all()
        and (joint["q"] >= joint["p"])[known].all()
    )
    np.testing.assert_allclose(joint.loc[known, ["mix z", "mix c"]].sum(axis=1), 1, atol=1e-6)


def test_predictions_are_those_that_the_scores_are_of(study, joint):
    (artefact,) = make([Encode(study, "subj01", Model.of("z", "c"))], QUIET)
    data = dataset(study, "subj01")
    prediction = np.asarray(artefact.array("prediction")[:], np.float64)
    trials = data.trials
    images = np.unique(trials.loc[trials["split"] == "test", "image"])
    betas = data.betas("brain", zscore="session", uncovered="nan")
    seen = np.array([betas[(trials["image"] == image).to_numpy()].mean(axis=0) for image in images])
    some = np.flatnonzero(joint["r"].notna())[::200]
    for voxel in some:  # predictions are kept at float16
        r = np.corrcoef(seen[:, voxel], prediction[:, voxel])[0, 1]
        assert r == pytest.approx(joint["r"][voxel], abs=0.01)


def test_the_brain_that_answers_is_predicted_and_the_rest_is_not(joint):
    answers = joint["streams"] != ""
    assert joint.loc[answers, "r"].mean() > 0.1
    assert abs(joint.loc[~answers, "r"].mean()) < 0.03


def test_the_command_prints_what_it_found(study):
    words = ["encode", str(study.folder / "small.toml"), "--features", "z,c", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert (
        {row["model"] for row in found["regions"]} == {"z", "c"}
        and found["preferences"]
        and not found["seeds"]
    )
    assert {"atlas", "region", "r", "ci_low", "ci_high", "significant", "r_of_ceiling"} <= found[
        "regions"
    ][0].keys()


def test_the_command_prints_a_single_model(study):
    done = CliRunner().invoke(app, ["encode", str(study.folder / "small.toml"), "--features", "z"])
    assert done.exit_code == 0, done.output
    assert "asked, mean correlation x 100" in done.stdout and "less" not in done.stdout


def test_features_may_be_removed_once_they_are_reduced(study):
    """As docs/encoding.md says; fitting again needs their principal components alone."""
    words = ["encode", str(study.folder / "small.toml"), "--features", "zc@0.5", "--json"]
    words += ["--set", "encode.denoising=2"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert list((study.root / "features").iterdir())
    shutil.rmtree(study.root / "features")
    again = CliRunner().invoke(app, [*words, "--force"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["regions"] == json.loads(first.stdout)["regions"]
    assert not (study.root / "features").exists()


@pytest.mark.filterwarnings("ignore:.*voxels have no data", "ignore:RidgeCV")
def test_noise_ceilings_of_more_than_three_repeats(tmp_path):
    text = STUDY.replace("images_own = 48", "images_own = 24").replace("repeats = 2", "repeats = 4")
    (tmp_path / "s.toml").write_text(text)
    study = ph.Study.load(tmp_path / "s.toml")
    table = ph.encode(study, ["z"], QUIET)
    known = table["ncsnr"].notna()
    snr = table.loc[known, "ncsnr"].astype(float)
    repeats = dataset(study, "subj01").trials.query("split == 'test'")["image"].value_counts()
    assert set(repeats) == {4}
    np.testing.assert_allclose(table.loc[known, "ceiling"], np.sqrt(snr**2 / (snr**2 + 1 / 4)))
    assert noise_ceiling(study, "subj01") > 0


def test_regions_hold_the_means_of_their_voxels_and_intervals_around_them(study, joint):
    models = [("asked", Model.of("z", "c"))]
    make(model_steps(study, "subj01", models), QUIET)
    table = regions(study, "subj01", models).set_index(["atlas", "region"])
    for region in ("early", "ventral", "elsewhere"):
        inside = joint["streams"] == ("" if region == "elsewhere" else region)
        row = table.loc[("streams", region)]
        assert (
            row["r"] == pytest.approx(joint.loc[inside, "r"].mean())
            and row["ci_low"] < row["r"] < row["ci_high"]
        )
        for name in ("unique z", "unique c"):
            assert row[name] == pytest.approx(joint.loc[inside, name].mean())
            assert row[f"ci_low {name}"] < row[f"ci_high {name}"]
            assert row[f"ci_low {name}"] - 0.05 < row[name] < row[f"ci_high {name}"] + 0.05
        assert row["significant"] == pytest.approx(
            (joint.loc[inside & joint["r"].notna(), "q"] <= 0.05).mean()
        )
    assert {"V1v", "hV4"} <= set(table.loc["prf-visualrois"].index)


@pytest.mark.parametrize("names", [("z", "c"), ("z", "c", "c:category")])
def test_what_is_predicted_without_a_space_gives_its_unique_variance(study, names):
    steps = [Encode(study, "subj01", Model.of(*names)), Measured(study, "subj01")]
    artefact, measured = make(steps, QUIET)
    truth = measured.array("test")[:].astype(float)
    without = artefact.array("without")[:].astype(float)
    assert without.shape == (len(names), *truth.shape)
    known = np.isfinite(truth).all(axis=0)
    assert not known.all() and np.isnan(without[:, :, ~known]).all()
    whole = correlation.r2(truth, artefact.array("prediction")[:].astype(float))
    for space, unique in zip(without, artefact.array("unique")[:], strict=True):
        # float16
        np.testing.assert_allclose(
            (whole - correlation.r2(truth, space))[known], unique[known], atol=5e-3
        )


def test_the_models_of_figure_7_and_its_controls(study):
    few = study.replace("encode.analyses", ["noise", "text"])
    few = few.replace("encode.noise", [0.5, 0.8])
    names = [(analysis, str(one)) for analysis, one in planned(few)]
    assert names == [
        ("noise", "z + zc@0.5"),
        ("noise", "z + zc@0.8"),
        ("noise", "z + zc:own-noise@0.5"),
        ("noise", "z + zc:own-noise@0.8"),
        ("text", "z + zc:other@0.8"),
        ("text", "z + zc:empty@0.8"),
        ("text", "zc:empty@0.8 + zc@0.8"),
    ]
    own = few.replace("encode.same_noise", False)
    assert [str(one) for _, one in planned(own)] == ["z + zc@0.5", "z + zc@0.8"]


def test_differences_are_those_of_the_two_maps(study):
    a = Model.of("z")
    b = Model.of("c")
    make(model_steps(study, "subj01", [("features", a), ("features", b)]), QUIET)
    table = differences(study, "subj01", a, b)
    of_a, of_b = (maps(study, "subj01", model) for model in (a, b))
    # predictions are kept at float16
    np.testing.assert_allclose(table["difference"], of_a["r"] - of_b["r"], atol=0.01)
    assert (table["ci_low"] <= table["ci_high"])[table["p"].notna()].all() and (
        table["q"] >= table["p"]
    ).sum() > 1000
    wide = preferences(study, "subj01", [("features", a), ("features", b)]).set_index(
        ["atlas", "region"]
    )
    early = table["streams"] == "early"
    row = wide.loc[("streams", "early")]
    assert row["difference"] == pytest.approx(table["difference"][early].mean())
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_permuted_images_give_about_the_exact_p(study):
    permuting = study.replace("encode.permutations", 500)
    table = ph.encode(permuting, ["z"], QUIET)
    known = table["p"].notna()
    assert (table["p_permuted"][known] >= 1 / 501).all()
    # 12 pictures, 500 permutations
    assert np.abs(table["p_permuted"] - table["p"])[known].quantile(0.9) < 0.08


def test_other_noise_gives_nearly_the_same_map(study):
    again = study.replace("encode.seeds", [1]).replace("encode.denoising", 10)
    model = Model.of("zc@0.2")
    models = [("features", model)]
    make(model_steps(again, "subj01", models), QUIET)
    assert list(agreement(again, "subj01", models)["seed"]) == [1]
    own, other = (maps(again.replace("seed", seed), "subj01", model) for seed in (0, 1))
    early = (own["streams"] == "early") & own["r"].notna() & other["r"].notna()
    r, r_again = own.loc[early, "r"], other.loc[early, "r"]
    assert np.corrcoef(r, r_again)[0, 1] > 0.8 and (r != r_again).any()


def test_a_model_that_is_not_fitted_is_named(study):
    with pytest.raises(PhospheneError, match="model 'zc@0.7' of subj01 is not fitted"):
        maps(study, "subj01", Model.of("zc@0.7"))


def test_force_fits_again_and_finds_the_same(study):
    models = [("asked", Model.of("z"))]
    steps = model_steps(study, "subj01", models)
    own = {step.hash for step in steps}
    sources = [source for step in steps for source in step.sources if source.hash not in own]
    make([*steps, *sources], QUIET)
    before = regions(study, "subj01", models)
    times = [finished_at(step) for step in steps]
    times_of_sources = [finished_at(step) for step in sources]
    make(steps, QUIET, force=True)
    assert all(finished_at(step) > time for step, time in zip(steps, times, strict=True))
    assert [finished_at(step) for step in sources] == times_of_sources
    assert regions(study, "subj01", models).equals(before)


def finished_at(step: Step) -> int:
    return step.artefact.file("manifest.json").stat().st_mtime_ns


def test_a_plan_says_what_is_done_and_what_it_costs(study):
    path = str(study.folder / "small.toml")
    ph.encode(study, ["z"], QUIET)
    done = CliRunner().invoke(
        app, ["encode", path, "--dry-run", "--json", "--features", "z,zc@0.5"]
    )
    rows = [row for row in json.loads(done.stdout) if row["stage"] == "encode"]
    states = {row["name"]: row["state"] for row in rows}
    assert states == {"subj01-z": "done", "subj01-zc-0.5": "to do"}
    shown = CliRunner().invoke(app, ["encode", path, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    _, cost = shown.stdout.split("Estimated cost of what is to do")
    assert all(word in cost for word in ("features", "reduce", "statistics", "together"))
    assert "betas" not in cost  # done


def test_figures_and_files(study, joint, tmp_path):
    ph.encode(study, ["z", "c"], QUIET)
    models = [
        ("features", Model.of("z")),
        ("features", Model.of("c")),
        ("noise", Model.of("z", "c")),
    ]
    written = figures.write(study, "subj01", models, tmp_path)
    names = {path.name for path in written}
    assert {
        "surface.html",
        "features.png",
        "features.pdf",
        "noise.png",
        "z-r.nii.gz",
        "z-c-r.nii.gz",
        "c-r.lh.func.gii",
    } <= names
    volume = np.asarray(nib.load(tmp_path / "z-c-r.nii.gz").dataobj)
    row = joint[joint["r"].notna()].iloc[0]
    assert volume[row.x, row["y"], row["z"]] == pytest.approx(row["r"], abs=1e-6)


def test_data_without_a_whole_brain_are_refused(study, monkeypatch):
    monkeypatch.setattr(subject, "dataset", lambda *_: object())
    with pytest.raises(PhospheneError, match="expected scans of a whole brain"):
        make([Encode(study, "subj01", Model.of("z"))], QUIET)
