"""The command for a day on a GPU, run on the CPU: every part reports, and a failure does not stop
the next part.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.environment import REPOSITORY

PARTS = ["tests", "demo", "sampling", "ridge"]
WITHOUT_GPU = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable}


def gpu_day(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "benchmarks" / "gpu_day.sh"), *options]
    return subprocess.run(
        command, env=WITHOUT_GPU | {"OUT": str(out)}, capture_output=True, text=True
    )


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import gpu_day

    return gpu_day


@pytest.mark.timeout(600)
def test_dry_run(tmp_path: Path) -> None:
    process = gpu_day(tmp_path, "--dry", "--seconds", "900")
    record = json.loads((tmp_path / "gpu_day.json").read_text())
    text = (tmp_path / "gpu_day.txt").read_text()
    assert process.returncode == 0, process.stdout + process.stderr
    assert record["ok"] and record["dry"] and record["missing"] == []
    assert list(record["parts"]) == PARTS
    for name, part in record["parts"].items():
        assert part["outcome"] == "ok" and part["result"], name
        assert f"{name}: ok" in text
    results = {name: part["result"] for name, part in record["parts"].items()}
    assert results["tests"]["tests"] >= 20 and results["tests"]["skipped"] == 0
    assert set(results["demo"]["table"]) >= {
        "z",
        "c",
        "zc",
        "zc, shuffled brain",
        "zc, true features",
    }
    assert results["sampling"]["sd14"]["pictures_per_second"].keys() == {
        "original",
        "diffusers",
        "ours",
    }
    pairs = results["ridge"]["pairs"].values()
    assert pairs and all(pair["agreement"]["largest_relative_difference"] < 1e-3 for pair in pairs)
    assert results["ridge"]["alone"]
    assert all(run["coef_error"] < 1e-3 for run in results["ridge"]["alone"].values())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) <= 8 and all(path.parent == tmp_path for path in files)


@pytest.mark.timeout(200)
def test_parts_after_a_failure_run(module: ModuleType, tmp_path: Path) -> None:
    """One part lasts too long, the next one asks for an absent GPU, and the last one still
    succeeds.
    """
    absent = {part.name: part for part in module.parts("cuda:7", dry=True)}
    present = {part.name: part for part in module.parts("cpu", dry=True)}
    sleeping = module.Part(
        "sleeping", 0, lambda folder, seconds: ["sleep", "100"], lambda folder: {}
    )
    todo = [sleeping, replace(absent["demo"], seconds=60), replace(present["ridge"], seconds=60)]
    environment = WITHOUT_GPU | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    records: dict[str, Any] = dict(module.run_parts(todo, 120, tmp_path, environment))
    assert {name: record["outcome"] for name, record in records.items()} == {
        "sleeping": "timed out",
        "demo": "failed",
        "ridge": "ok",
    }
    assert records["sleeping"]["seconds"] < 15
    assert "'cuda:7'" in records["demo"]["reason"]
    assert (tmp_path / "demo.log").read_text().count("Error:") == 1


def test_a_machine_without_a_gpu(tmp_path: Path) -> None:
    process = gpu_day(tmp_path, "--wheels-folder", str(tmp_path / "absent"))
    record = json.loads((tmp_path / "gpu_day.json").read_text())
    assert process.returncode == 1
    assert not record["ok"]
    assert record["missing"] == ["no wheels in absent/", "a CUDA device"]
    assert [part["outcome"] for part in record["parts"].values()] == ["missing"] * len(PARTS)


def test_missing_packages_are_named(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"zarr": "2.0"}

    def version(name: str) -> str:
        if name == "diffusers":
            raise module.PackageNotFoundError(name)
        return versions.get(name, "1000")

    monkeypatch.setattr(module, "version", version)
    missing = module.missing_packages()
    assert [text.split(">")[0].split()[0] for text in missing] == ["diffusers", "zarr"]
    assert missing[0].endswith("(absent)") and missing[1].endswith("(2.0)")


def test_table_of_the_readme(module: ModuleType) -> None:
    """What the part demo compares with."""
    import gpu_demo

    table = gpu_demo.readme_table()
    differences = gpu_demo.differences(table, table)
    assert list(table) == ["z", "c", "zc", "zc, shuffled brain", "zc, true features"]
    assert all(set(row.values()) == {0.0} for row in differences.values())
    assert all(0 <= value <= 100 for row in table.values() for value in row.values())


def test_gpu_tests_are_not_collected_without_a_gpu() -> None:
    """One line names the gap; nothing is counted as skipped."""
    environment = {
        name: value for name, value in WITHOUT_GPU.items() if name != "PHOSPHENE_TEST_DEVICE"
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/gpu"]
    process = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert process.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert process.stdout.count("tests/gpu: not collected, no CUDA device") == 1
    assert "skipped" not in process.stdout
