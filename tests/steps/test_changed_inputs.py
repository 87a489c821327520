"""A byte of any input changed anywhere: `status` says "to do" of what depends on it, and of nothing
else.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene import disk
from phosphene.cli.app import app
from phosphene.encoding.models import Model
from phosphene.models.diffusion.sources import BUNDLED, PARTS
from phosphene.pipeline.caches import begin_command
from phosphene.pipeline.graph import walk
from phosphene.steps.encode.models import Encode
from phosphene.steps.figures import drawing_keys
from phosphene.steps.plan import everything
from phosphene.steps.ratings import Ratings
from phosphene.study import Study
from support.finished import finish
from support.model_layouts import Written
from support.own_data import write_betas

SCORES = {"evaluate", "report", "audit"}
PICTURES = {"reconstruct", "ratings", *SCORES}
ENCODED = {"encode", "statistics", "contrast", "figures"}
# what follows from features of pictures and captions, and from responses
FEATURES = {"extract", "features", "reduce", "factors", "decode", *ENCODED, *PICTURES}
DENOISED = FEATURES - {"extract", "decode"}
BRAIN = {"betas", "decompose", "decode", "measured", *ENCODED, *PICTURES}
OWN_BRAIN = {"decompose", "decode", *PICTURES}  # read where they are used
REGIONS = '[decode]\nz = {rois = ["all"]}\nc = {rois = ["all"]}\n'
ENCODE = '[encode]\nanalyses = ["features"]\nnoise = [0.5]\ncomponents = 4\n'
OWN = f'[data]\nkind = "arrays"\nroot = "lab"\n{REGIONS}'
SIMULATED = (
    f'{ENCODE}[data]\nroot = "data"\nsimulate = {{enabled = true, images_shared = 6, '
    "images_own = 20, sessions = 1, repeats = 1"
)


@dataclass
class Place:
    """A study whose results are all finished."""

    folder: Path

    def states(self) -> dict[str, set[str]]:
        """Stages by what `status` says of them, in what would be a new process."""
        forget()
        result = CliRunner().invoke(app, ["status", str(self.folder / "s.toml"), "--json"])
        if result.exit_code == 1 and result.stderr.startswith("Error:"):
            return {"refused": {result.stderr}}
        assert result.exit_code == 0, result.output
        states: dict[str, set[str]] = {}
        for row in json.loads(result.stdout):
            states.setdefault(row["state"], set()).add(row["stage"])
        return states


def forget() -> None:
    """What a process remembers of inputs."""
    begin_command()
    disk._hashes.clear()


def finished(folder: Path, text: str) -> Place:
    """Mark all results of a study as finished, without their contents."""
    (folder / "s.toml").write_text(text)
    study = Study.load(folder / "s.toml", root=folder / "runs")
    forget()
    # the report is another one once what it shows beside the scores is finished
    for _ in range(2):
        for step in walk([root for roots in everything(study).values() for root in roots]):
            finish(step)
    place = Place(folder)
    assert set(place.states()) == {"done"}
    return place


def check_every_byte(place: Place, path: Path, stages: set[str]) -> None:
    """Change the first, middle and last byte in turn; nothing else about the file may tell, as a
    copy keeps times.
    """
    stat = path.stat()
    for where in (0, stat.st_size // 2, stat.st_size - 1):
        change_byte(path, where)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        states = place.states()
        if "refused" in states:  # damaged so that it cannot be read at all
            assert path.name in str(states)
        else:
            assert states["to do"] == stages, (path.name, where, states)
        change_byte(path, where)
        assert set(place.states()) == {"done"}


def change_byte(path: Path, where: int) -> None:
    with path.open("r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 1]))


@pytest.fixture(params=["npy", "zarr 3", "h5", "nii.gz", "nii"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Path]:
    """A lab's own folder, its betas in one of the formats and larger than 1 MiB."""
    folder = tmp_path / "lab"
    (folder / "images").mkdir(parents=True)
    names = [f"picture{k}" for k in range(6)]
    random = np.random.default_rng(0)
    for name in names:
        Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(
            folder / "images" / f"{name}.png"
        )
    rows = [
        f"{name},{'test' if k < 2 else 'train'}" for _ in range(4) for k, name in enumerate(names)
    ]
    (folder / "trials.csv").write_text("image_id,split\n" + "\n".join(rows) + "\n")
    (folder / "captions.csv").write_text(
        "image_id,caption\n" + "".join(f"{n},a cat\n" for n in names)
    )
    (folder / "categories.csv").write_text(
        "image_id,category\n" + "".join(f"{n},cat\n" for n in names)
    )
    grid = np.argwhere(np.ones((24, 25, 22)))
    write_betas(folder, request.param, random.normal(size=(24, len(grid))).astype(np.float32), grid)
    return finished(tmp_path, OWN), next(folder.glob("betas.*"))


def test_own_data(lab: tuple[Place, Path]) -> None:
    place, betas = lab
    assert betas.is_dir() or betas.stat().st_size > disk.SMALL_FILE
    check_every_byte(
        place, next(f for f in betas.rglob("c/*/*")) if betas.is_dir() else betas, OWN_BRAIN
    )
    for path in betas.parent.glob("mask.*"):
        check_every_byte(place, path, OWN_BRAIN)
    features = {"extract", "decode", *PICTURES}
    check_every_byte(place, betas.parent / "images" / "picture3.png", features)
    # names of things start pictures of the audit, and are asked for by the judge
    for name, stages in (("captions", features), ("categories", {"reconstruct", *SCORES})):
        path = betas.parent / f"{name}.csv"
        before = path.read_text()
        path.write_text(before.replace("picture5,", "picture5,x", 1))
        assert place.states()["to do"] == stages, name
        path.write_text(before)
    assert set(place.states()) == {"done"}


@pytest.mark.parametrize("nifti", ["false", "true"])
def test_simulated_nsd(tmp_path: Path, nifti: str) -> None:
    text = SIMULATED + f", nifti = {nifti}}}\n"
    place = finished(tmp_path, text)
    data = tmp_path / "data"
    if nifti == "true":  # HDF5 would be read in its place
        next(data.glob("**/betas_session01.hdf5")).unlink()
        place = finished(tmp_path, text)
    kinds = {
        "nsddata_betas/**/betas_session01.*": BRAIN,
        "nsddata_betas/**/ncsnr.nii.gz": BRAIN,
        "nsddata_stimuli/**/nsd_stimuli.hdf5": FEATURES,
        "nsddata_stimuli/**/captions_train2017.json": FEATURES,
    }
    for kind, stages in kinds.items():
        (path,) = data.glob(kind)
        check_every_byte(place, path, stages)


def test_a_voxel_of_a_region(tmp_path: Path) -> None:
    """Only what is made from this region, and what shows labels."""
    place = finished(tmp_path, SIMULATED + "}\n")
    (path,) = (tmp_path / "data").glob("nsddata/**/roi/streams.nii.gz")
    before = path.read_bytes()
    image = nib.load(path)
    compared = {"betas", "decompose", "decode", "evaluate", "report"}
    # 1 is "early", which z is decoded from, and 7 "parietal", which is only compared
    for label, stages in ((1, compared | PICTURES), (7, compared)):
        values = np.asarray(image.dataobj).copy()
        values[tuple(np.argwhere(values == label)[0])] = 0
        nib.save(nib.Nifti1Image(values, image.affine), path)
        assert place.states()["to do"] == stages | {"statistics", "figures"}
        path.write_bytes(before)
    assert set(place.states()) == {"done"}


def test_what_brain_maps_are_drawn_with(tmp_path: Path) -> None:
    """The outlines of the streams, also where no table names them, and the place of the grid."""
    encode = ENCODE + 'atlases = ["prf-visualrois"]\n'
    place = finished(tmp_path, SIMULATED.replace(ENCODE, encode) + "}\n")
    [path] = (tmp_path / "data").glob("nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz")
    before = path.read_bytes()
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[tuple(np.argwhere(values == 6)[0])] = 5  # from lateral to ventral
    nib.save(nib.Nifti1Image(values, image.affine), path)
    assert place.states()["to do"] >= {"figures", "report"}
    values[values == 7] = 0  # nothing is left of parietal
    nib.save(nib.Nifti1Image(values, image.affine), path)
    assert place.states()["to do"] >= {"figures", "report"}
    path.write_bytes(before)
    assert set(place.states()) == {"done"}
    study = Study.load(tmp_path / "s.toml")
    key = drawing_keys(study, "subj01")["affine"]
    for path in (tmp_path / "data/nsddata/ppdata/subj01/func1pt8mm").rglob("*.nii.gz"):
        image = nib.load(path)
        affine = image.affine.copy()
        affine[0, 3] += 5
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    forget()
    assert drawing_keys(study, "subj01")["affine"] != key


def test_the_order_of_spaces_and_of_subjects(tmp_path: Path) -> None:
    """Names of folders are cut, and keys of inputs are sorted; results have an order."""
    (tmp_path / "s.toml").write_text(SIMULATED + '}\nsubjects = ["subj01", "subj02"]\n')
    study = Study.load(tmp_path / "s.toml")
    spaces = [f"unet/down{k}@0.{j}/step=1" for k in (0, 1) for j in range(1, 6)]
    swapped = [*spaces[:-2], spaces[-1], spaces[-2]]
    first, second = (Encode(study, "subj01", Model.of(*names)) for names in (spaces, swapped))
    assert first.name == second.name
    assert first.hash != second.hash
    other = study.replace("data.subjects", ["subj02", "subj01"])
    assert Ratings(study).hash != Ratings(other).hash


def test_every_weight_file_of_a_model(tmp_path: Path) -> None:
    shutil.copytree(BUNDLED, tmp_path / "model")
    place = finished(tmp_path, SIMULATED + f'}}\n[model]\nname = "{tmp_path}/model"\n')
    files = [(file, part) for part in PARTS for file in (tmp_path / "model" / part).iterdir()]
    assert len([file for file, _ in files if file.suffix == ".safetensors"]) == 3
    for file, part in files:
        check_every_byte(place, file, DENOISED if part in ("unet", "scheduler") else FEATURES)


def test_checkpoints(tmp_path: Path) -> None:
    model = Written(tmp_path, "sd1")
    for path in (model.safetensors, model.ckpt):
        place = finished(tmp_path, SIMULATED + f'}}\n[model]\nname = "{path}"\n')
        check_every_byte(place, path, FEATURES)
        check_every_byte(place, tmp_path / "model.phosphene.json", FEATURES)


def test_weights_of_the_networks_that_score(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "alexnet-owt-7be5be79.pth"
    path.write_bytes(np.random.default_rng(0).bytes(3 << 20))
    text = SIMULATED + '}\n[evaluate]\npresets = ["braindiffuser"]\nweights = "weights"\n'
    check_every_byte(finished(tmp_path, text), path, SCORES)


# what is remembered


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    read: list[Path] = []
    hashed = disk._hashed

    def counted(path: Path, progress: disk._Progress) -> str:
        read.append(path)
        return hashed(path, progress)

    monkeypatch.setattr(disk, "_hashed", counted)
    yield read


def test_large_files_are_read_once(
    tmp_path: Path, count_reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(2 << 20))
    first = disk.content_hashes([path])
    # too young to be remembered
    assert disk.content_hashes([path]) == first and len(count_reads) == 2
    monkeypatch.setattr(disk, "SETTLED", -1.0)
    disk.content_hashes([path])
    disk._hashes.clear()  # as another process
    assert disk.content_hashes([path]) == first and len(count_reads) == 3
    (remembered,) = (tmp_path / "cache" / "phosphene" / "hashes").iterdir()
    remembered.write_text("damaged")
    disk._hashes.clear()
    assert disk.content_hashes([path]) == first and len(count_reads) == 4


@pytest.mark.parametrize("change", ["touch", "replace", "rewrite and set the time back"])
def test_a_file_that_may_have_changed_is_read_again(
    tmp_path: Path, count_reads: list[Path], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(disk, "SETTLED", -1.0)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(2 << 20))
    stat = path.stat()
    disk.content_hashes([path])
    time.sleep(0.02)
    if change == "touch":
        path.touch()
    elif change == "replace":
        shutil.copy2(path, tmp_path / "other.bin")
        os.replace(tmp_path / "other.bin", path)
    else:
        change_byte(path, 5)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    disk.content_hashes([path])
    assert len(count_reads) == 2


def test_without_a_place_to_remember(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file where the cache should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(disk, "SETTLED", -1.0)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(2 << 20))
    first = disk.content_hashes([path])
    disk._hashes.clear()
    assert disk.content_hashes([path]) == first


def test_a_line_tells_how_far_hashing_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "betas.npy"
    path.write_bytes(bytes(3 << 20))
    monkeypatch.setattr(disk, "FIRST_LINE", 0.0)
    disk.content_hashes([path])
    assert capsys.readouterr().err == "hashing inputs once: 0.0 of 0.0 GB, betas.npy\n"
