"""Files made to harm: each ends in one sentence, at once, and within bounded memory."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import nibabel as nib
import numcodecs
import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file

from phosphene.data.arrays import Arrays
from phosphene.data.atlas import read_label_table
from phosphene.data.coco import Coco
from phosphene.data.coco_cache import _Shallow, parse_captions
from phosphene.data.nsd import bucket as bucket_module
from phosphene.data.nsd.bucket import Bucket
from phosphene.data.nsd.files import read_design
from phosphene.data.opening import load_volume, open_image, read_array
from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read as read_pictures_to_score
from phosphene.models.diffusion import sources
from phosphene.models.diffusion.configuration import Configuration
from phosphene.models.diffusion.loading import describe, nets
from phosphene.models.perceptual import weights
from phosphene.reading import read_json, read_toml
from phosphene.study import Study
from support.environment import ENVIRONMENT
from support.own_data import write_betas

DEEP = 100_000


def refused(match: str) -> Any:
    return pytest.raises(PhospheneError, match=match)


# Tensors


def test_a11_an_empty_pt_file(tmp_path: Path) -> None:
    for name in ("a.pt", "a.pth", "a.safetensors", "a.ckpt"):
        (tmp_path / name).touch()
    with refused(r"a\.pt: found an empty file; copy or download"):
        read_pictures_to_score(tmp_path / "a.pt")
    for name in ("a.pth", "a.safetensors"):
        with refused("found an empty file"):
            weights.read(tmp_path / name)


def test_a11_tensors_without_values(tmp_path: Path) -> None:
    torch.save(torch.empty(4, 3, 8, 8, device="meta"), tmp_path / "meta.pt")
    torch.save(torch.zeros(1).expand(10**9, 3, 64, 64), tmp_path / "expanded.pt")
    torch.save({"fc": torch.empty(4, device="meta")}, tmp_path / "meta.pth")
    with refused(r"meta\.pt: holds a tensor of shape \(4, 3, 8, 8\) without its values"):
        read_pictures_to_score(tmp_path / "meta.pt")
    with refused(r"expanded\.pt: holds a tensor of shape .* without its values"):
        read_pictures_to_score(tmp_path / "expanded.pt")
    with refused(r"meta\.pth: holds a tensor"):
        weights.read(tmp_path / "meta.pth")


def test_a11_a_compressed_pt_file(tmp_path: Path) -> None:
    torch.save(torch.zeros(1, 3, 8, 8), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old:
        contents = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in contents.items():
            new.writestr(name, content)
    with refused(r"b\.pt: is compressed"):
        read_pictures_to_score(tmp_path / "b.pt")


# Arrays, volumes, tables


def npy_header(path: Path, header: str) -> Path:
    text = header.encode().ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(4608))
    return path


@pytest.mark.parametrize(
    "shape", ["(-24, -24)", "(24, -1)", "(10**30, 24)", "(" * 90, "(99999999999999999999, 3)"]
)
def test_a11_absurd_shapes_of_a_npy_file(folder: Path, shape: str) -> None:
    npy_header(
        folder / "betas.npy", f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"
    )
    with refused(r"betas\.npy: could not be read"):
        Arrays(folder)


def test_a11_objects_in_a_npy_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with refused(r"a\.npy: could not be read .*objects"):
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("form", ["nii", "nii.gz"])
@pytest.mark.parametrize("offset", [1e30, -400.0, 1e9])
def test_a11_values_of_a_volume_that_begin_nowhere(folder: Path, form: str, offset: float) -> None:
    write_betas(folder, form, np.ones((24, 24), np.int16))
    import gzip

    for name in ("betas", "mask"):
        path = folder / f"{name}.{form}"
        raw = path.read_bytes()
        content = bytearray(gzip.decompress(raw) if form == "nii.gz" else raw)
        content[108:112] = np.float32(offset).tobytes()
        damaged = gzip.compress(bytes(content)) if form == "nii.gz" else bytes(content)
        path.write_bytes(damaged)
        with refused(rf"{name}\.{form}: could not be read as NIfTI"):
            Arrays(folder).betas("all")
        path.write_bytes(raw)


def test_a11_a_design_that_is_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "nsd_expdesign.mat"
    for content in (pickle.dumps({"a": 1}), pickle.dumps([1] * 9), b"", b"MATLAB 5.0", bytes(200)):
        path.write_bytes(content)
        with refused(r"nsd_expdesign\.mat: could not be read as a MATLAB file with masterordering"):
            read_design(path)


def test_a11_a_label_of_an_absurd_number(tmp_path: Path) -> None:
    (tmp_path / "x.mgz.ctab").write_text("0 Unknown\n1000000000000 V1\n")
    with refused(r"x\.mgz\.ctab: could not be read as a table of labels .a label has the number"):
        read_label_table(tmp_path / "x.mgz.ctab")


# Text


def test_a11_deep_toml_and_json(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("x = " + "[" * DEEP)
    (tmp_path / "x.json").write_text("[" * DEEP + "]" * DEEP)
    with refused(r"study\.toml: it is nested too deeply"):
        Study.load(tmp_path / "study.toml")
    with refused(r"study\.toml: it is nested too deeply"):
        read_toml(tmp_path / "study.toml")
    with refused(r"x\.json: could not be read as JSON \(it is nested too deeply\)"):
        read_json(tmp_path / "x.json")


def deep_model(tmp_path: Path, file: str, content: str) -> Path:
    folder = tmp_path / "model"
    for part in sources.PARTS:
        (folder / part).mkdir(parents=True)
        for path in (sources.BUNDLED / part).iterdir():
            (folder / part / path.name).symlink_to(path)
    (folder / file).unlink()
    (folder / file).write_text(content)
    return folder


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a11_deep_json_of_a_model(tmp_path: Path, file: str) -> None:
    model = deep_model(tmp_path, file, "[" * DEEP)
    for look in (describe, Configuration.of):
        with refused(rf"{Path(file).name}: could not be read as JSON .it is nested too deeply"):
            look(model)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"layers_per_block": 10**9}, "found a layers_per_block beyond 128"),
        ({"layers_per_block": [1, 10**9, 1]}, "found a layers_per_block beyond 128"),
        ({"block_out_channels": [32] * 10**6}, "found 1000000 entries of block_out_channels"),
        ({"block_out_channels": [10**9]}, "found a block_out_channels beyond 16,384"),
        ({"sample_size": 10**30}, "found a sample_size beyond"),
    ],
)
def test_a11_sizes_are_refused_before_a_net_is_built(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    config = json.loads((sources.BUNDLED / "unet" / "config.json").read_text())
    model = deep_model(tmp_path, "unet/config.json", json.dumps(config | change))
    for look in (describe, Configuration.of, lambda name: nets(name, "cpu", torch.float32)):
        with refused(rf"unet/config\.json: {match}"):
            look(model)


def test_a11_sizes_beside_a_single_file(tmp_path: Path) -> None:
    save_file({"cond_stage_model.transformer.x": torch.zeros(1)}, tmp_path / "m.safetensors")
    beside = tmp_path / "m.phosphene.json"
    beside.write_text(json.dumps({"text_encoder": {"num_hidden_layers": 10**9}}))
    with refused(r"m\.phosphene\.json: found a num_hidden_layers beyond 128"):
        sources.settings(tmp_path / "m.safetensors")
    beside.write_text("[" * DEEP)
    with refused(r"m\.phosphene\.json: could not be read as JSON .it is nested too deeply"):
        sources.settings(tmp_path / "m.safetensors")


# Pipes, devices, folders


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_pictures_to_score(path.rename(path.with_suffix(".pt"))),
        weights.read,
        read_array,
        load_volume,
        read_json,
        read_toml,
        lambda path: open_image(path).__enter__(),
    ],
)
def test_a11_a_pipe_is_not_waited_for(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    with refused("is a pipe or a device; expected a file"):
        read(tmp_path / "pipe.nii")


@pytest.mark.parametrize("name", ["betas.npy", "betas.h5", "betas.nii", "trials.csv"])
def test_a11_pipes_among_own_data(folder: Path, name: str) -> None:
    if name.startswith("betas"):
        (folder / "betas.npy").unlink()
    else:
        (folder / name).unlink()
    os.mkfifo(folder / name)
    if name == "betas.nii":
        nib.save(nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4)), folder / "mask.nii")
    with refused(rf"{name}: is a pipe or a device"):
        Arrays(folder)


def test_a11_a_pipe_among_the_chunks(folder: Path) -> None:
    write_betas(folder, "zarr 3", np.load(folder / "betas.npy"))
    chunk = folder / "betas.zarr" / "c" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    with refused("c/0/0: is a pipe or a device"):
        Arrays(folder)


# Bombs


def test_a11_chunks_far_larger_than_their_array(folder: Path) -> None:
    (folder / "betas.npy").unlink()
    zarr.create_array(
        folder / "betas.zarr", data=np.zeros((24, 24), np.float32), chunks=(24, 4_000_000)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refused(r"betas\.zarr: its chunks \(24, 4000000\) take 384 MB each, decompressed, for"):
        Arrays(folder).betas("all")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    for path in sorted((folder / "betas.zarr").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "betas.zarr").rmdir()
    with h5py.File(folder / "betas.h5", "w") as file:
        shape = {"shape": (24, 24), "maxshape": (None, None), "chunks": (24, 4_000_000)}
        file.create_dataset("betas", dtype="f4", compression="gzip", **shape)
    with refused(r"betas\.h5: its chunks \(24, 4000000\) take 384 MB each"):
        Arrays(folder).betas("all")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["GZip", "Zstd", "Blosc"])
def test_a11_a_chunk_that_announces_gigabytes(folder: Path, version: int, kind: str) -> None:
    codec = getattr(numcodecs, kind)()
    v3 = getattr(zarr.codecs, f"{kind}Codec".replace("GZip", "Gzip"))()
    (folder / "betas.npy").unlink()
    betas = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
    zarr.create_array(
        folder / "betas.zarr",
        data=betas,
        chunks=(12, 24),
        zarr_format=version,
        compressors=codec if version == 2 else v3,
    )
    assert Arrays(folder).betas("all", "none").shape == (24, 24)
    chunk = folder / "betas.zarr" / ("1.0" if version == 2 else "c/1/0")
    chunk.write_bytes(codec.encode(np.zeros(1 << 28, np.uint8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refused(rf"{chunk.name}: holds 268 MB, compressed, where a chunk of the array has 0.0 MB"):
        Arrays(folder).betas("all")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


NESTED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from phosphene.data.coco_cache import parse_captions
from phosphene.errors import PhospheneError
try:
    parse_captions(Path(sys.argv[1]))
except PhospheneError as error:
    print(error)
"""


@pytest.mark.parametrize("start", ["", '"x]]]]", '])
def test_a11_two_megabytes_of_nested_coco(tmp_path: Path, start: str) -> None:
    path = tmp_path / "captions_train2017.json"
    path.write_text('{"annotations": ' + f"[{start}" * 500_000)
    done = subprocess.run(
        [sys.executable, "-c", NESTED, path], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert "it is nested more than 100 levels deep" in done.stdout, done.stderr[-500:]


def test_a11_brackets_in_captions_do_not_count(tmp_path: Path) -> None:
    caption = '[[{{ "quoted" \\ ' + "[" * 500
    entries = [{"image_id": k, "caption": caption + "\\" * (k % 4)} for k in range(300)]
    path = tmp_path / "captions_val2017.json"
    path.write_text(json.dumps({"annotations": entries}))
    rows = parse_captions(path)
    assert [row["captions"] for row in rows] == [[e["caption"]] for e in entries]
    for size in (1, 3, 7, 1000):  # blocks end anywhere, also within an escape
        with path.open("rb") as file:
            shallow = _Shallow(file)
            while shallow.read(size):
                pass
            assert shallow._level == 0 and not shallow._in_text


# Names and downloads


def test_a9_splits_of_coco_are_a_closed_list(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "captions_x.json").write_text("{}")
    for split in ("../../captions_x", "x", ""):
        with refused("COCO has no split .*; expected 'train2017' or 'val2017'"):
            Coco(tmp_path / "coco").captions(1, split)


class Server:
    """Stands for S3's client."""

    def __init__(self, size: int = 100, **answer: Any) -> None:
        self.size = size
        self.answer = answer
        self.pages = 0

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=self._pages)

    def _pages(self, **_: Any) -> Iterator[Any]:
        while True:
            self.pages += 1
            yield {"Contents": [{"Key": "f/a.csv", "Size": self.size, "ETag": '"e"'}]}

    def get_object(self, **_: Any) -> Any:
        blocks = iter([b"x" * 60] * 10)
        body = SimpleNamespace(iter_chunks=lambda _: blocks, close=lambda: None)
        return {"Body": body, **self.answer}

    def head_object(self, **_: Any) -> Any:
        return {"PartsCount": 2}


def bucket(server: Server) -> Bucket:
    made = Bucket()
    made.client = server
    return made


def test_a8_not_a_byte_more_than_listed_is_taken() -> None:
    taken = []
    with refused("a.csv: the server sends more than the 100 bytes that it lists"):
        for _, chunk in bucket(Server(ContentLength=600)).read("f/a.csv", 100, "e", 0):
            taken.append(chunk)
    assert sum(map(len, taken)) <= 100


def test_a8_an_answer_without_its_length() -> None:
    with refused("a.csv: the server does not say how many bytes it sends"):
        list(bucket(Server()).read("f/a.csv", 100, "e", 0))
    assert bucket(Server()).part_size("f/a.csv") is None


def test_a8_a_listing_ends() -> None:
    server = Server()
    with refused("f/: the server lists more than 100 pages of files"):
        bucket(server).files("f/")
    assert server.pages <= bucket_module.MOST_PAGES + 1


@pytest.mark.parametrize("size", [-1, 10**15])
def test_a8_sizes_that_no_object_has(size: int) -> None:
    with refused(f"a.csv: the server lists it with the size {size}"):
        bucket(Server(size)).files("f/")
