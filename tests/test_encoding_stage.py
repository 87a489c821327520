"""Encoding models of a small simulated study: maps, files and figures."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import phosphene as ph
from phosphene import encoding, study_maps
from phosphene.cli import app
from phosphene.data.scans import Scans
from phosphene.encoding import Model
from phosphene.errors import PhospheneError
from phosphene.sources import dataset
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
    assert {"x", "y", "z", "ncsnr", "r", "r2", "p", "q", "alpha", "ceiling", *spaces} <= set(joint.columns)
    known = joint["r"].notna()
    assert known.mean() > 0.95 and joint.loc[known, "p"].between(0, 1).all() and (joint["q"] >= joint["p"])[known].all()
    np.testing.assert_allclose(joint.loc[known, ["mix z", "mix c"]].sum(axis=1), 1, atol=1e-6)


def test_predictions_are_those_that_the_scores_are_of(study, joint):
    artefact = encoding.encode(study, "subj01", Model.of("z", "c"), QUIET)
    data, prediction = dataset(study, "subj01"), np.asarray(artefact.array("prediction")[:], np.float64)
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
    rows = json.loads(done.stdout[done.stdout.index("[{") :])
    assert {row["model"] for row in rows} == {"z", "c"} and {"region", "r", "significant"} <= rows[0].keys()


def test_figures_and_files(study, joint, tmp_path):
    ph.encode(study, ["z", "c"], QUIET)
    models = [("features", Model.of("z")), ("features", Model.of("c")), ("noise", Model.of("z", "c"))]
    written = study_maps.write(study, "subj01", models, tmp_path / "maps")
    names = {path.name for path in written}
    assert {"features.png", "features.pdf", "noise.png", "z-r.nii.gz", "z-c-r.nii.gz", "c-r.lh.func.gii"} <= names
    volume = np.asarray(nib.load(tmp_path / "maps/z-c-r.nii.gz").dataobj)
    row = joint[joint["r"].notna()].iloc[0]
    assert volume[row.x, row["y"], row["z"]] == pytest.approx(row["r"], abs=1e-6)


def test_data_without_a_whole_brain_are_refused(study, monkeypatch):
    monkeypatch.setattr("phosphene.encoding.fitting.dataset", lambda *_: object())
    with pytest.raises(PhospheneError, match="expected scans of a whole brain"):
        encoding.encode(study, "subj01", Model.of("z"), QUIET)
