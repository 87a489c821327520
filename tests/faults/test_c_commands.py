"""Section C: what stops or misleads a user at the command line."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phosphene.cli import failures
from phosphene.cli.app import app
from phosphene.errors import PhospheneError
from phosphene.steps.report import Report
from phosphene.study import Study
from support.own_data import STUDY, write_folder

TEXT = STUDY.replace('["shuffled"]', "[]")


@pytest.fixture
def study(tmp_path):
    write_folder(tmp_path / "lab")
    (tmp_path / "s.toml").write_text(TEXT)
    return tmp_path / "s.toml"


def refused(*words) -> str:
    """What a command that is refused says."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Error: ") and "Traceback" not in result.stderr
    return result.stderr


def test_c2_an_unexpected_error_is_one_sentence_that_asks_for_a_report(study, monkeypatch):
    def fails(*_, **__):
        raise KeyError("beta_start")

    monkeypatch.setattr("phosphene.pipeline.graph.make", fails)
    text = refused("run", study)
    assert "KeyError in test_c_commands.py" in text and "beta_start" in text
    assert "fault of phosphene" in text and "-v" in text
    assert text.count("\n") == 1
    result = CliRunner().invoke(app, ["run", str(study), "-v"])
    assert isinstance(result.exception, KeyError)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "--root"),
        (errno.EROFS, "--root"),
        (errno.ENAMETOOLONG, "shorter"),
        (errno.EMFILE, "ulimit"),
        (errno.EIO, "copy the file again"),
    ],
)
def test_c2_errors_of_the_system_say_what_to_do(tmp_path, number, said):
    text = failures.sentence(OSError(number, os.strerror(number), str(tmp_path / "a" / "b")))
    assert text.startswith(f"{tmp_path}/a/b: ") and said in text
    assert "Errno" not in text


def test_c2_errors_without_a_file_and_of_memory():
    assert failures.sentence(OSError("cannot be opened")) == "cannot be opened"
    assert "fewer --jobs" in failures.sentence(MemoryError())
    assert failures.sentence(PhospheneError("a: b")) == "a: b"


def test_a10_control_characters_do_not_reach_the_terminal():
    assert failures.printable("a\x1b[31mb\tc\nd\u202eé") == "a\\x1b[31mb\\tc\nd\\u202eé"
    assert "\x1b" not in failures.sentence(PhospheneError("picture\x1b[2J.png: cannot be read"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("decode.alphas=[0.0]", "'decode.alphas' must be above 0, found 0.0"),
        ("encode.alphas=[1.0, -1.0]", "'encode.alphas' must be above 0, found -1.0"),
        ("decode.cv=99", "decode.cv: found 99 folds for 2 training images"),
        ("decode.c.rois=['nowhere']", "nowhere"),
        ("evaluate.rois=['nowhere']", "nowhere"),
        ("model.name='nowhere/at-all'", "nowhere/at-all"),
    ],
)
def test_c6_settings_are_refused_before_anything_is_made(study, change, said):
    assert said in refused("run", study, "--set", change, "--set", "reconstruct.modes=['z','zc']")
    assert not (study.parent / "runs").exists()


def test_c6_a_start_beyond_the_schedule_is_refused_before_anything_is_made(study):
    change = ["reconstruct.modes=['z','zc']", "reconstruct.strength=1.0"]
    change.append("reconstruct.sampler='paper'")
    text = refused("run", study, *(word for one in change for word in ("--set", one)))
    assert "reconstruct.strength" in text
    assert not (study.parent / "runs").exists()


def test_c6_too_little_room_is_said_before_anything_is_made(study, monkeypatch):
    usage = shutil.disk_usage(study.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1))
    with pytest.warns(UserWarning, match=r"about .* GB, and 0.0 GB are free"):
        CliRunner().invoke(app, ["extract", str(study)])


def test_a10_a_report_does_not_tell_where_a_model_lies(study, tmp_path):
    for name, shown in ((f"{tmp_path}/home/me/model", "model"), ("~/x/sd.ckpt", "sd.ckpt")):
        step = Report(Study.load(study).replace("model.name", name))
        assert step.model_name == shown
        assert step.settings()["study"]["model"]["name"] == shown
    assert (
        Report(Study.load(study).replace("model.name", "some/hub-id")).model_name == "some/hub-id"
    )


def test_b8_scores_are_kept_where_the_device_is_not_there(study):
    CliRunner().invoke(app, ["run", str(study)])
    before = sorted((study.parent / "runs/evaluate").rglob("*"))
    assert len(before) > 2
    for words in (["evaluate"], ["audit"]):
        text = refused(*words, study, "--force", "--device", "cuda:99")
        assert "--device" in text
    assert sorted((study.parent / "runs/evaluate").rglob("*")) == before


def test_c1_every_dependency_has_a_floor_that_is_tested():
    root = Path(__file__).parents[2]
    command = [sys.executable, root / ".ci/oldest.py", root / "pyproject.toml"]
    lines = subprocess.check_output(command, text=True).splitlines()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert len(lines) == len(project["dependencies"]) - 2 + 2 + 4  # torch and torchvision apart
    assert "numcodecs==0.16.6" in lines and "dask==2025.1" in lines


def test_c10_windows_is_refused_at_once():
    code = "import sys; sys.platform = 'win32'; import phosphene"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and "Linux and macOS" in done.stderr
