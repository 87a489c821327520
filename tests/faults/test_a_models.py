"""Section A: a model names no file elsewhere, and what others wrote is not believed."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.sources import BUNDLED
from phosphene.models.hub import refuse_code, refuse_other_files


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("tokenizer_config.json", {"init_inputs": ["/elsewhere/vocab.json", "/etc/hosts"]}),
        ("tokenizer_config.json", {"vocab_file": "/elsewhere/vocab.json"}),
        ("special_tokens_map.json", {"merges_file": "/etc/hosts"}),
        ("special_tokens_map.json", {"vocab": "/etc/hosts"}),
        ("added.json", {"tokenizer_file": "/etc/hosts"}),
    ],
)
def test_a4_a_tokenizer_is_read_from_its_own_folder(model, file, entry):
    path = model / "tokenizer" / file
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | entry))
    with pytest.raises(PhospheneError, match=f"{file}: {next(iter(entry))} is"):
        LatentDiffusion.load(model, "cpu")


def test_a4_settings_beside_a_single_file_name_no_file(tmp_path):
    beside = tmp_path / "sd.phosphene.json"
    beside.write_text(json.dumps({"tokenizer": {"tokenizer_file": "/elsewhere/tokenizer.json"}}))
    with pytest.raises(PhospheneError, match="tokenizer_file"):
        refuse_code(beside)


def test_a4_adapters_are_refused_since_nothing_knows_their_weights(model):
    (model / "text_encoder/adapter_config.json").write_text("{}")
    with pytest.raises(PhospheneError, match="adapter_config.json: adapters are not read"):
        LatentDiffusion.load(model, "cpu")


def test_a4_the_bundled_model_asks_for_nothing():
    for name in ("text_encoder", "tokenizer", "unet", "vae"):
        refuse_other_files(BUNDLED / name)


def test_b1_hashes_that_somebody_else_wrote_are_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(disk, "_hashes", {})
    monkeypatch.setattr(disk, "SETTLED", -1.0)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(disk.SMALL_FILE + 1))
    (right,) = disk.content_hashes([path])
    folder = tmp_path / "cache/phosphene/hashes"
    (kept,) = folder.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    kept.write_text("0" * 32)
    disk._hashes.clear()
    assert disk.content_hashes([path]) == ["0" * 32]  # of one's own
    disk._hashes.clear()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert disk.content_hashes([path]) == [right]
