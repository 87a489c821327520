"""phosphene check: a good folder passes, a shifted trial and a flipped mask are caught, what is
missing is named.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.data.check import check
from phosphene.data.simulated.simulate import simulate

FOLDER = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(
        tmp_path_factory.mktemp("nsd") / "nsd",
        images_shared=20,
        images_own=100,
        sessions=3,
        noise=0.5,
        voxel_size=8.0,
    )


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "nsd"))


def test_a_good_folder_passes(root: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(root)])
    assert done.exit_code == 0, done.output
    assert "360 in 3 sessions: 60 test of 20 pictures, 300 train of 100 pictures" in done.output
    assert "wrong" not in done.output and "missing" not in done.output
    found = json.loads(CliRunner().invoke(app, ["check", str(root), "--json", "--no-align"]).output)
    states = {line["item"]: line["state"] for line in found["subj01"]}
    assert (
        states["betas"] == states["surface"] == "ok"
        and states["counts"] == "note"
        and "alignment" not in states
    )


def test_shifted_trials_are_caught(copy: Path) -> None:
    for path in (copy / FOLDER).glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file["betas"][:] = np.roll(file["betas"][:], 1, axis=0)
    line = check(copy, "nsd", "subj01")[-1]
    assert line.state == "wrong" and "moved by -1 in the order" in line.found


def test_a_flipped_mask_is_caught(copy: Path) -> None:
    path = copy / "nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:, ::-1].copy(), image.affine), path)
    line = check(copy, "nsd", "subj01")[-1]
    assert line.item == "alignment" and line.state == "wrong"


def test_what_is_missing_is_named_with_what_needs_it(copy: Path) -> None:
    shutil.rmtree(copy / "nsddata_stimuli/stimuli/nsd/annotations")
    shutil.rmtree(copy / "nsddata/ppdata/subj01/transforms")
    (copy / FOLDER / "ncsnr.nii.gz").unlink()
    (copy / FOLDER / "betas_session02.hdf5").write_bytes(b"damaged")
    lines = {line.item: line for line in check(copy, "nsd", "subj01", align=False)}
    for item, needed in (
        ("captions", "extract c"),
        ("surface", "flat maps"),
        ("noise ceiling", "report"),
    ):
        assert lines[item].state == "missing" and lines[item].needed_for == needed
    assert lines["betas"].state == "wrong" and "betas_session02.hdf5" in lines["betas"].found
    assert CliRunner().invoke(app, ["check", str(copy), "--no-align"]).exit_code == 1


def test_some_sessions_only_are_told(copy: Path) -> None:
    (copy / FOLDER / "betas_session02.hdf5").unlink()
    lines = {line.item: line for line in check(copy, "nsd", "subj01", align=False)}
    assert "sessions 1, 3 of 3 planned" in lines["betas"].found


def test_folders_without_data_are_refused(tmp_path: Path) -> None:
    for place, said in (
        (tmp_path, "no data that phosphene knows"),
        (tmp_path / "no", "no such file or folder"),
    ):
        done = CliRunner().invoke(app, ["check", str(place)])
        assert done.exit_code == 1 and said in " ".join(done.output.split())


def test_a_study_is_checked_for_its_regions_and_its_model(root: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(f'[data]\nkind = "nsd"\nroot = "{root}"\n[decode.c]\nrois = ["ventral"]\n')
    good = CliRunner().invoke(app, ["check", str(study), "--no-align"])
    assert good.exit_code == 0 and "c from" in good.output and "bundled" in good.output, good.output
    bad = [
        "check",
        str(study),
        "--no-align",
        "--json",
        "--set",
        'decode.z.rois=["earli"]',
        "--set",
        "model.name=a/b",
    ]
    done = CliRunner().invoke(app, bad)
    found = json.loads(done.output)
    regions = next(line for line in found["subj01"] if line["item"] == "z from")
    model = found["model"][0]
    assert done.exit_code == 1 and regions["state"] == "wrong" and "'early'" in regions["found"]
    assert model["state"] == "missing" and "hf download a/b" in model["found"]


def test_a_model_alone_is_described_or_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["check", "--model", "bundled"])
    assert done.exit_code == 0 and "24 x 128" in done.output, done.output
    assert CliRunner().invoke(app, ["check", "--model", str(tmp_path / "none")]).exit_code == 1
    assert CliRunner().invoke(app, ["check"]).exit_code == 2
