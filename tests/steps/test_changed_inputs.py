"""A byte of any input changed anywhere: `status` says "to do" of what depends on it, and of nothing
else.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene import disk
from phosphene.cli.app import app
from phosphene.data import Dataset
from phosphene.data.haxby import Haxby
from phosphene.data.laion.dataset import LaionFMRI
from phosphene.errors import PhospheneError
from phosphene.models import diffusion
from phosphene.pipeline.store import Store
from phosphene.steps import subject
from phosphene.steps.plan import plan
from phosphene.study import Study
from support.model_layouts import Written
from support.own_data import write_betas

DATA = {"betas", "extract", "decompose", "decode", "reconstruct", "evaluate", "report"}
MODEL = {"extract", "decode", "reconstruct", "evaluate", "report"}
SCORES = {"evaluate", "report"}
OWN = (
    '[data]\nkind = "arrays"\nroot = "lab"\n[decode]\nz = {rois = ["all"]}\nc = {rois = ["all"]}\n'
)
SIMULATED = (
    '[data]\nroot = "data"\nsimulate = {enabled = true, images_shared = 6, images_own = '
    "20, sessions = 1, repeats = 1"
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
    for function in (
        subject._open,
        subject._fingerprint,
        subject.load_model,
        subject.model_fingerprint,
    ):
        function.cache_clear()
    disk._hashes.clear()


def finished(folder: Path, text: str) -> Place:
    """Mark all results of a study as finished, without their contents."""
    (folder / "s.toml").write_text(text)
    study = Study.load(folder / "s.toml", root=folder / "runs")
    forget()
    for recipe in plan(study):
        artefact = Store(study.root).artefact(recipe)
        for part in artefact.missing(1):
            with artefact.part(part):
                pass
        artefact.finish()
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
    stages = DATA - {"betas"}  # read where they are used
    check_every_byte(
        place, next(f for f in betas.rglob("c/*/*")) if betas.is_dir() else betas, stages
    )
    for path in (*betas.parent.glob("mask.*"), betas.parent / "images" / "picture3.png"):
        check_every_byte(place, path, stages)
    for name in ("captions", "categories"):
        path = betas.parent / f"{name}.csv"
        path.write_text(path.read_text().replace("picture5,", "picture5,x", 1))
        assert place.states()["to do"] == stages


@pytest.mark.parametrize("nifti", ["false", "true"])
def test_simulated_nsd(tmp_path: Path, nifti: str) -> None:
    text = SIMULATED + f", nifti = {nifti}}}\n"
    place = finished(tmp_path, text)
    data = tmp_path / "data"
    if nifti == "true":  # HDF5 would be read in its place
        next(data.glob("**/betas_session01.hdf5")).unlink()
        place = finished(tmp_path, text)
    kinds = (
        "nsddata_betas/**/betas_session01.*",
        "nsddata_betas/**/ncsnr.nii.gz",
        "nsddata/**/brainmask.nii.gz",
        "nsddata/**/roi/streams.nii.gz",
        "nsddata/**/nsd_expdesign.mat",
        "nsddata/**/nsd_stim_info_merged.csv",
        "nsddata_stimuli/**/nsd_stimuli.hdf5",
        "nsddata_stimuli/**/captions_train2017.json",
    )
    for kind in kinds:
        (path,) = data.glob(kind)
        check_every_byte(place, path, DATA)


def test_every_weight_file_of_a_model(tmp_path: Path) -> None:
    shutil.copytree(diffusion.loading.BUNDLED, tmp_path / "model")
    place = finished(tmp_path, SIMULATED + f'}}\n[model]\nname = "{tmp_path}/model"\n')
    files = [
        file for part in diffusion.loading.PARTS for file in (tmp_path / "model" / part).iterdir()
    ]
    assert len([file for file in files if file.suffix == ".safetensors"]) == 3
    for file in files:
        check_every_byte(place, file, MODEL)


def test_checkpoints(tmp_path: Path) -> None:
    model = Written(tmp_path, "sd1")
    for path in (model.safetensors, model.ckpt):
        place = finished(tmp_path, SIMULATED + f'}}\n[model]\nname = "{path}"\n')
        check_every_byte(place, path, MODEL)
        check_every_byte(place, tmp_path / "model.phosphene.json", MODEL)


def test_weights_of_the_networks_that_score(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "alexnet-owt-7be5be79.pth"
    path.write_bytes(np.random.default_rng(0).bytes(3 << 20))
    text = SIMULATED + '}\n[evaluate]\npresets = ["braindiffuser"]\nweights = "weights"\n'
    check_every_byte(finished(tmp_path, text), path, SCORES)


def check_fingerprint(open_data: Callable[[], Dataset], paths: list[Path]) -> None:
    """The same for data sets of which no study is made here: `status` compares fingerprints."""
    before = open_data().fingerprint()
    for path in paths:
        for where in (0, path.stat().st_size // 2, path.stat().st_size - 1):
            change_byte(path, where)
            try:
                assert open_data().fingerprint() != before, path.name
            except PhospheneError as error:  # damaged so that it cannot be read at all
                assert path.name in str(error)
            change_byte(path, where)
    assert open_data().fingerprint() == before


def test_haxby(full: Path) -> None:
    files = [path for path in full.rglob("*") if path.is_file()]
    assert len(files) == 5
    check_fingerprint(lambda: Haxby(full, "subj1"), files)


def test_laion(root: Path) -> None:
    kinds = (
        "**/*SingletrialBetas*",
        "**/*statmap.nii.gz",
        "**/*_mask.nii.gz",
        "**/task-images_*",
        "splits/**/*.json",
    )
    files = sorted({path for kind in kinds for path in root.glob(kind) if path.is_file()})
    data = LaionFMRI(root, "sub-03")
    used = [path for path in files if path.parent.name != "splits" and path.suffix != ".json"]
    assert len(used) > 10
    check_fingerprint(lambda: LaionFMRI(root, "sub-03"), [*used, data._split])


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
