"""Which part of the brain knows it? Regions that nobody chose never stop a run; the study's own are
always compared.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from phosphene.cli.app import app
from phosphene.pipeline.caches import begin_command
from phosphene.steps.conditions import compared_rois
from phosphene.steps.evaluate import Evaluate
from phosphene.steps.subject import dataset
from phosphene.study import Study

OWN = """
[data]
kind = "arrays"
root = "lab"
[decode]
alphas = [1.0, 100.0]
cv = 2
z = {rois = ["V1"]}
c = {rois = ["V1"]}
[reconstruct]
modes = ["z"]
baselines = []
[evaluate]
presets = ["pixel"]
bootstrap = 20
permutations = 20
"""
SIMULATED = """
[data]
root = "data"
simulate = {enabled = true, images_shared = 6, images_own = 20, sessions = 1, repeats = 1}
[reconstruct]
modes = ["z"]
baselines = []
[evaluate]
bootstrap = 20
permutations = 20
"""


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def study_file(folder: Path, tmp_path: Path) -> Path:
    """The region "early" of the lab's folder has no data: its voxels never change."""
    betas = np.load(folder / "betas.npy")
    table = pd.read_csv(folder / "voxels.csv")
    table.loc[table["roi"].str.contains("early", na=False), "roi"] = "early"
    table.to_csv(folder / "voxels.csv", index=False)
    betas[:, table["roi"] == "early"] = 3
    np.save(folder / "betas.npy", betas)
    (tmp_path / "s.toml").write_text(OWN)
    return tmp_path / "s.toml"


def compared(path: Path) -> list[str]:
    table = Evaluate(Study.load(path), "subj01").artefact.table("rois")
    return table["roi"].tolist()


@pytest.mark.filterwarnings("ignore")
def test_a_region_without_data_is_left_out(study_file: Path) -> None:
    checked = call("check", study_file)
    assert "early 0 with data (left out)" in " ".join(checked.output.split())
    with pytest.warns(
        UserWarning, match="region 'early' is left out of the comparison .*none of the 8 voxels"
    ):
        result = call("run", study_file)
    assert result.exit_code == 0, result.output
    # where a region is called "early", the streams and the study's own
    assert compared(study_file) == ["V1"]
    rows = json.loads(call("status", study_file, "--json").stdout)
    assert {row["state"] for row in rows if row["command"] == "run"} == {"done"}
    assert call("run", study_file).exit_code == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", ["decode.z.rois", "evaluate.rois"])
def test_a_region_that_somebody_chose_is_an_error(study_file: Path, key: str) -> None:
    result = call("run", study_file, "--set", f'{key}=["early"]')
    assert (
        result.exit_code == 1
        and "none of the 8 voxels asked for has data in every session" in result.stderr
    )
    assert call("run", study_file).exit_code == 0  # left out where nobody chose it
    result = call("run", study_file, "--set", f'{key}=["early"]')
    assert result.exit_code == 1 and "none of the 8 voxels" in result.stderr


@pytest.mark.filterwarnings("ignore")
def test_labels_that_a_volume_does_not_have(tmp_path: Path) -> None:
    """A label of the streams without a voxel, and a file among the atlases that is none."""
    (tmp_path / "s.toml").write_text(SIMULATED)
    study = Study.load(tmp_path / "s.toml")
    before = compared_rois(study, dataset(study, "subj01"))
    for path in (tmp_path / "data").glob("nsddata/**/roi/*streams.nii.gz"):
        image = nib.load(path)
        values = np.asarray(image.dataobj).copy()
        values[values == 2] = 0  # midventral
        nib.save(nib.Nifti1Image(values, image.affine), path)
    (path.parent / "mine.nii.gz").write_bytes(b"not a volume")
    (path.parent / "._streams.nii.gz").write_bytes(b"what macOS leaves")
    begin_command()
    result = call("check", tmp_path / "s.toml")
    assert "'midventral' holds no voxel" in " ".join(result.output.split())
    result = call("run", tmp_path / "s.toml")
    assert result.exit_code == 0, result.output
    assert compared(tmp_path / "s.toml") == [roi for roi in before if roi != "midventral"]
    result = call("run", tmp_path / "s.toml", "--set", 'decode.z.rois=["mine"]')
    assert result.exit_code == 1 and "mine.nii.gz: could not be read" in result.stderr


@pytest.mark.filterwarnings("ignore")
def test_own_regions_are_compared_beside_the_streams(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SIMULATED + '[decode.z]\nrois = ["V1v", "V1d"]\n')
    study = Study.load(tmp_path / "s.toml")
    rois = compared_rois(study, dataset(study, "subj01"))
    assert rois[-2:] == ["V1v", "V1d"] and "early" in rois
    assert compared_rois(study.replace("evaluate.rois", ["V1v"]), dataset(study, "subj01")) == [
        "V1v"
    ]
    result = call("run", tmp_path / "s.toml", "--set", 'evaluate.rois=["V1v"]')
    assert result.exit_code == 0, result.output
