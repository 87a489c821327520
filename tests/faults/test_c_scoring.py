"""Scoring and comparing: what stopped with a traceback or a wrong hint."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read
from phosphene.metrics.measures import Draws
from phosphene.metrics.pairing import match
from phosphene.metrics.published import beside, read_scores
from phosphene.metrics.score import score_pictures


def write(folder, names, suffix=".png", side=16):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(names))
    for name in names:
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(
            folder / f"{name}{suffix}"
        )
    return folder


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 24, 24, 3), np.uint8)
    noisy = (pictures // 2 + rng.integers(0, 128, pictures.shape)).astype(np.uint8)
    return score_pictures([noisy], pictures, ["pixel"], draws=Draws(20, 20, 0)).scores


@pytest.mark.parametrize("side", [1, 4, 7, 9])
def test_c8_small_jpegs_are_read(tmp_path, side):
    assert read(write(tmp_path / "a", ["x", "y"], ".jpg", side)).samples[0][0].shape[0] == side


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".JPE"])
def test_c8_other_endings_of_jpeg_are_read(tmp_path, suffix):
    folder = write(tmp_path / "a", ["x"], ".jpg")
    (folder / "x.jpg").rename(folder / f"y{suffix}")
    write(folder, ["z"])
    found = read(folder)
    assert found.names == ["y", "z"] and found.notes == []


def test_c8_a_picture_that_is_too_large_is_named(tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    write(tmp_path / "a", ["x"])
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    (tmp_path / "a" / "big.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    with pytest.raises(
        PhospheneError,
        match=r"1 of 2 files have more than 178,956,970 pixels \(big.png\); make them smaller",
    ):
        read(tmp_path / "a")


def test_c8_by_order_ends_of_names_are_no_samples(tmp_path):
    made = read(write(tmp_path / "r", ["cat_1", "cat_2", "dog_1", "dog_2"]))
    shown = read(write(tmp_path / "o", ["a", "b", "c", "d"]))
    assert len(made.samples) == 2
    paired, _ = match(made, shown, by_order=True)
    assert len(paired.samples) == 1 and paired.names == ["a", "b", "c", "d"]
    assert [path.stem for path in paired.samples[0].paths] == ["cat_1", "cat_2", "dog_1", "dog_2"]
    # as many originals as groups: then they are samples
    paired, _ = match(made, read(write(tmp_path / "p", ["a", "b"])), by_order=True)
    assert len(paired.samples) == 2 and paired.names == ["a", "b"]


def doubled(table):
    return pd.concat([table, table.iloc[:1]])


def joined(table):
    return pd.concat([table, pd.DataFrame([list(table)], columns=list(table)), table])


def edited(**values):
    def edit(table):
        table = table.astype(object)
        for name, value in values.items():
            table.loc[1, name] = value
        return table

    return edit


@pytest.mark.parametrize(
    "edit, sentence",
    [
        (doubled, "line 10 has pixel .* for the second time"),
        (joined, "line 10 is a second header, so several files were joined"),
        (edited(metric="LPIPS"), "line 3 has metric 'LPIPS', expected .*PixCorr"),
        (edited(kind="three-way"), "line 3 has kind 'three-way', expected "),
        (edited(direction="sideways"), "line 3 has direction 'sideways', expected "),
        (edited(selection="best"), "line 3 has selection 'best', expected mean or single"),
        (edited(value="good"), "value is 'good' on line 3, expected a number"),
        (edited(value="inf"), "value is .*inf.* on line 3, expected a number"),
        (edited(n=""), "n is 'nan' on line 3, expected a whole number from 1"),
        (edited(samples=1.5), "samples is '1.5' on line 3, expected a whole number"),
        (edited(preset="pixels"), "found preset 'pixels'"),
        (lambda table: table.drop(columns="kind"), "has no column kind"),
    ],
)
def test_c8_edited_scores_are_refused_in_one_sentence(tmp_path, scores, edit, sentence):
    assert len(scores) == 8
    path = tmp_path / "scores.csv"
    edit(scores).to_csv(path, index=False)
    with pytest.raises(PhospheneError, match=sentence) as error:
        read_scores(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    done = CliRunner().invoke(app, ["compare", str(path)])
    assert done.exit_code == 1 and "Traceback" not in done.output


def test_c8_scores_that_were_written_are_compared(tmp_path, scores):
    scores.to_csv(tmp_path / "scores.csv", index=False)
    table = beside(read_scores(tmp_path / "scores.csv"))
    np.testing.assert_allclose(table["value"], beside(scores)["value"])
    assert CliRunner().invoke(app, ["compare", str(tmp_path / "scores.csv")]).exit_code == 0
