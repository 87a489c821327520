"""Damage, outliers and spellings that would change results without a word."""

from __future__ import annotations

import inspect
import json
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

from phosphene.data.arrays import Arrays
from phosphene.data.arrays.tables import read_trials
from phosphene.data.laion.files import read_names, read_split
from phosphene.data.nsd.files import read_design
from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read as read_pictures_to_score
from phosphene.models.diffusion import checkpoints
from phosphene.models.diffusion.schedule import DEFAULTS, DEFAULTS_OF, OTHER_NOISE, NoiseSchedule
from phosphene.models.perceptual import weights
from support.own_data import write_picture


def refused(match: str) -> pytest.RaisesExc[PhospheneError]:
    return pytest.raises(PhospheneError, match=match)


def design(path: Path) -> Path:
    random = np.random.default_rng(0)
    scipy.io.savemat(
        path,
        {
            "masterordering": random.integers(1, 900, (1, 3000)),
            "subjectim": random.integers(1, 73000, (8, 1000)),
            "sharedix": np.arange(1, 101)[None],
            "stimpattern": np.ones((4, 12, 63), np.uint8),
        },
        do_compression=True,
    )
    return path


def test_b3_flipped_bits_of_a_design_end_in_a_sentence(tmp_path: Path) -> None:
    path = design(tmp_path / "nsd_expdesign.mat")
    raw = path.read_bytes()
    whole = read_design(path)
    refusals = 0
    for place in np.random.default_rng(1).integers(0, len(raw), 150):
        content = bytearray(raw)
        content[place] ^= 4
        path.write_bytes(bytes(content))
        try:
            read = read_design(path)
        except PhospheneError as error:
            assert "nsd_expdesign.mat: " in str(error) and "\n" not in str(error)
            refusals += 1
        else:
            for name, values in whole.items():
                np.testing.assert_array_equal(read[name], values)
    assert refusals > 100


def flipped(path: Path, place: int) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 64
    path.write_bytes(bytes(content))
    return path


def test_b3_a_flipped_bit_of_tensors_is_noticed(tmp_path: Path) -> None:
    pictures = torch.rand(2, 3, 64, 64)
    for name in ("a.pt", "a.ckpt", "a.pth"):
        held = pictures if name == "a.pt" else {"state_dict": {"x": pictures}}
        torch.save(held, tmp_path / name)
    middle = pictures.nbytes // 2
    with refused(r"a\.pt: found a damaged or cut-off file .*CRC"):
        read_pictures_to_score(flipped(tmp_path / "a.pt", middle))
    with refused(r"a\.ckpt: found a damaged or cut-off file .*CRC"):
        checkpoints.read(flipped(tmp_path / "a.ckpt", middle))
    with refused(r"a\.pth: found a damaged or cut-off file .*CRC"):
        weights.read(flipped(tmp_path / "a.pth", middle))


def test_b3_tensors_without_checksums_are_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(9)}, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert checkpoints.read(tmp_path / "a.ckpt")["x"].sum() == 9


def test_b6_a_picture_much_smaller_than_the_others_is_named(folder: Path) -> None:
    assert Arrays(folder).side > 1
    write_picture(folder / "images" / "10.png", (1, 1))
    with refused(r"10\.png: its shorter side has 1 pixels, those of most pictures \d+ or more"):
        Arrays(folder).images([1])


def test_b6_pictures_of_similar_sizes_are_made_equal(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()
    for name, side in (("a", 300), ("b", 700), ("10", 4000), ("é, 7", 450)):
        write_picture(folder / "images" / f"{name}.png", (side, side))
    assert Arrays(folder).side == 300


@pytest.mark.parametrize(("table", "file"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_b7_spellings_of_one_image_id_are_one_image(folder: Path, table: str, file: str) -> None:
    expected = Arrays(folder)
    pictures = expected.images([3])
    for name in ("trials.csv", "captions.csv"):
        path = folder / name
        path.write_text(unicodedata.normalize(table, path.read_text()))
    picture = next(p for p in (folder / "images").iterdir() if p.stem.endswith(", 7"))
    picture.rename(picture.with_name(unicodedata.normalize(file, picture.name)))
    data = Arrays(folder)
    assert data.names == expected.names
    assert data.captions([3]) == expected.captions([3])
    np.testing.assert_array_equal(data.images([3]), pictures)


def test_b7_one_image_in_both_splits_is_noticed(tmp_path: Path) -> None:
    rows = ["image_id,split", "é,train", "é,train", "e\u0301,test", "b,test"]
    (tmp_path / "trials.csv").write_text("\n".join(rows))
    with refused("image_id 'é' is in both splits"):
        read_trials(tmp_path / "trials.csv")


def test_b7_names_of_laion(tmp_path: Path) -> None:
    split = {"variants": [{"variant_id": 0, "train_ids": ["é"], "test_ids": ["e\u0301"]}]}
    (tmp_path / "tau.json").write_text(json.dumps(split))
    with refused("'é' is a training and a test picture"):
        read_split(tmp_path / "tau.json")
    pd.DataFrame({"image_name": ["e\u0301.jpg"]}).to_csv(tmp_path / "x.csv")
    assert read_names(tmp_path / "x.csv") == ("é.jpg",)


# Schedules, as diffusers reads them


def schedulers() -> list[str]:
    import diffusers

    names = [name for name in dir(diffusers) if name.endswith("Scheduler")]
    return [
        name
        for name in names
        if not OTHER_NOISE.search(name) and "beta_schedule" in _parameters(name)
    ]


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    import diffusers

    return inspect.signature(getattr(diffusers, name).__init__).parameters


@pytest.mark.parametrize("name", schedulers())
def test_b11_what_a_file_does_not_name_is_as_in_diffusers(name: str) -> None:
    parameters = _parameters(name)
    ours = DEFAULTS | DEFAULTS_OF.get(name, {})
    for key in ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps", "steps_offset"):
        if key in parameters:
            assert ours[key] == parameters[key].default, key


def test_b11_a_schedule_of_defaults_equals_that_of_diffusers() -> None:
    from diffusers import DDIMScheduler

    config = {"_class_name": "DDIMScheduler", "clip_sample": False}
    expected = DDIMScheduler.from_config(config).alphas_cumprod.double()
    torch.testing.assert_close(NoiseSchedule.from_config(config).alphas, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"use_karras_sigmas": True}, "use_karras_sigmas True of its sampler ignored"),
        ({"_class_name": "LCMScheduler"}, "LCMScheduler of its sampler ignored"),
        ({"_class_name": "PNDMScheduler", "skip_prk_steps": True}, ""),
    ],
)
def test_b11_preferences_of_samplers_are_ignored_with_a_note(change: dict, note: str) -> None:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        schedule = NoiseSchedule.from_config(config | change)
    assert [note in str(one.message) for one in notes] == ([True] if note else [])
    assert torch.equal(schedule.alphas, NoiseSchedule.from_config(config).alphas)
