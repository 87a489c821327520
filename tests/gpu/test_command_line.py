"""`--device` on the command line: a GPU by its names, a GPU that is absent, two workers on one
GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli.app import app
from support.environment import SOURCE

# 16 test pictures are two parts of the stage reconstruct, one for each of two workers
STUDY = """
name = "small"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 16
images_own = 24
repeats = 2
sessions = 2
[reconstruct]
modes = ["zc"]
baselines = []
samples = 1
steps = 10
"""
# z and c are decoded from features of the same device: what test_ldm.py allows, twice
GREY_MEAN = 1.0

Pictures = NDArray[np.uint8]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    (path / "small.toml").write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> Pictures:
    return run(folder, "reference", "cpu")


def words(folder: Path, root: str, device: str, until: str = "reconstruct") -> list[str]:
    root_option = ["--root", str(folder / root)]
    return ["run", str(folder / "small.toml"), "--until", until, "--device", device, *root_option]


def pictures(folder: Path, root: str) -> Pictures:
    files = sorted((folder / root / "reconstruct").glob("*/pictures/*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files])


def run(folder: Path, root: str, device: str) -> Pictures:
    result = CliRunner().invoke(app, words(folder, root, device))
    assert result.exit_code == 0, result.output
    return pictures(folder, root)


def grey_mean(first: Pictures, second: Pictures) -> float:
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def test_device_by_number(
    folder: Path, device: str, reference: Pictures, record_property: Record
) -> None:
    name = device if device == "cpu" else f"{device}:0"
    difference = grey_mean(run(folder, "numbered", name), reference)
    record_property("grey_mean", difference)
    assert difference <= GREY_MEAN


def test_two_workers_on_one_device(
    folder: Path, device: str, reference: Pictures, record_property: Record
) -> None:
    """Workers are processes with a CUDA context each; from the same z and c they make the pictures
    of one worker.
    """
    decoding = CliRunner().invoke(app, words(folder, "one", device, until="decode"))
    assert decoding.exit_code == 0, decoding.output
    shutil.copytree(folder / "one", folder / "two")
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "phosphene.cli", *words(folder, "two", device), "--jobs", "2"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    two = pictures(folder, "two")
    one = run(folder, "one", device)
    record_property("identical", bool(np.array_equal(two, one)))
    record_property("grey_mean_to_one_worker", grey_mean(two, one))
    record_property("grey_mean_to_cpu", grey_mean(two, reference))
    # the same kernels on the same batches: an atomic sum could change the last bits, and nothing
    # more
    assert grey_mean(two, one) <= 0.05
    assert grey_mean(two, reference) <= GREY_MEAN


def test_absent_device_is_refused(folder: Path, reference: Pictures) -> None:
    """In one sentence with exit code 1; `reference` has simulated the data."""
    result = CliRunner().invoke(app, words(folder, "absent", "cuda:7"))
    errors = [line for line in result.output.splitlines() if line.startswith("Error:")]
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert len(errors) == 1
    assert "cuda:7" in errors[0]
