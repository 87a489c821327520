"""Files that other systems leave behind, and caches that are equal to the last byte."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read
from phosphene.models.perceptual.cache import Shelf

FACTS = {"network": "alexnet", "layer": "relu3", "weights": "0" * 32, "torch": "2", "é": '"ü"'}


def test_d6_foreign_files_among_pictures_are_not_noted(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / f"{name}.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._a.png", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "a.png").write_bytes(b"x")
    pictures = read(tmp_path)
    assert pictures.names == ["a", "b"] and pictures.notes == []
    (tmp_path / "notes.txt").write_text("mine")
    assert read(tmp_path).notes == [
        f"{tmp_path}: left out 1 of 3 files, which are no PNG or JPEG (notes.txt)"
    ]


def test_d8_a_link_to_a_picture_that_is_not_here_is_named(tmp_path):
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(PhospheneError, match="b.png: is a link to a file that is not here"):
        read(tmp_path)


def test_d6_foreign_files_in_a_cache_are_left_alone(tmp_path, recwarn):
    shelf = Shelf(tmp_path, FACTS)
    shelf.put("a", np.ones(4, np.float32))
    shelf.close()
    (tmp_path / "._x.safetensors").write_bytes(b"AppleDouble")
    again = Shelf(tmp_path, FACTS)
    np.testing.assert_array_equal(again.get("a"), np.ones(4, np.float32))
    assert (tmp_path / "._x.safetensors").exists() and not recwarn.list


def test_d15_equal_caches_are_equal_files(tmp_path):
    hashes = set()
    for k in range(8):
        shelf = Shelf(tmp_path / str(k), FACTS)
        for name in ("c", "a", "b"):
            shelf.put(name, np.arange(5, dtype=np.float32) + ord(name))
        shelf.close()
        (file,) = (tmp_path / str(k)).iterdir()
        hashes.add(hashlib.sha256(file.read_bytes()).hexdigest())
        row = Shelf(tmp_path / str(k), FACTS).get("b")
        np.testing.assert_array_equal(row, np.arange(5, dtype=np.float32) + ord("b"))
    assert len(hashes) == 1


def test_d15_the_file_is_plain_safetensors(tmp_path):
    from safetensors import safe_open

    shelf = Shelf(tmp_path, FACTS)
    shelf.put("a", np.arange(3, dtype=np.float64))
    shelf.close()
    (path,) = tmp_path.iterdir()
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    with safe_open(path, framework="np") as file:
        assert {name: file.metadata()[name] for name in FACTS} == FACTS
        assert list(file.metadata()) != [] and file.keys() == ["a"]
