"""`status`, `results`, `clean`, `--dry-run` and `--force` on a lab's own small data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.cli.plan import in_bytes, in_time
from phosphene.cli.study import preset_file
from phosphene.steps.ratings import keep
from phosphene.study import Study
from support.environment import ENVIRONMENT
from support.own_data import STUDY, write_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a study of decoded z whose results are all finished."""
    there = tmp_path_factory.mktemp("finished")
    write_folder(there / "lab")
    (there / "s.toml").write_text(STUDY)
    invoked("run", str(there / "s.toml"))
    return there


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """A copy of the finished study, in which a command runs."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoked(*words: str, code: int = 0, **options: object) -> str:
    result = CliRunner().invoke(app, list(words), **options)
    assert result.exit_code == code, result.output
    return result.stdout


def records(*words: str) -> list[dict]:
    return json.loads(invoked(*words, "--json"))


def states(*words: str) -> dict[str, str]:
    """What `status` says, by stage and name."""
    return {f"{row['stage']} {row['name']}": row["state"] for row in records("status", *words)}


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def test_status_lists_what_every_command_makes(place):
    rows = records("status", "s.toml")
    by_command = pd.DataFrame(rows).groupby("command")["stage"].unique()
    assert set(by_command.index) == {"run", "audit", "rate make"}
    assert set(by_command["run"]) == {
        "decode",
        "decompose",
        "evaluate",
        "extract",
        "reconstruct",
        "report",
    }
    assert {row["state"] for row in rows if row["command"] == "run"} == {"done"}
    assert "audit" in by_command["audit"]
    text = invoked("status", "s.toml")
    n_done = sum(row["command"] == "run" for row in rows)
    assert f"Pictures, scores and report (phosphene run): {n_done} of {n_done} done" in text


def test_status_names_the_settings_of_what_is_there(place):
    words = ("s.toml", "--set", "evaluate.bootstrap=30")
    rows = {row["stage"]: row for row in records("status", *words) if row["command"] == "run"}
    assert rows["evaluate"]["state"] == "to do"
    assert rows["evaluate"]["note"] == "there is one made with bootstrap = 20 (now 30)"
    assert rows["reconstruct"]["state"] == "done"
    assert "(there is one made with bootstrap = 20 (now 30))" in invoked("status", *words)


def test_a_default_is_named_by_its_value(place):
    rows = {row["stage"]: row for row in records("status", "s.toml", "--set", "decode.cv=5")}
    # 5 is the default, which a recipe leaves out
    assert rows["decode"]["note"] == "there is one made with cv = 2 (now 5)"


def test_results_lists_other_settings_and_what_differs(place):
    invoked("evaluate", "s.toml", "--set", "evaluate.bootstrap=30", "--set", "decode.grouped=false")
    rows = records("results", "s.toml")
    differs = {row["differs"] for row in rows if row["stage"] == "evaluate"}
    assert differs == {
        "as the study",
        "with bootstrap = 30 (now 20), with grouped = False (now True)",
    }
    assert all(row["bytes"] > 0 and row["date"].startswith("20") for row in rows)
    assert f"{len(rows)} results, " in invoked("results", "s.toml")


def test_what_is_needed_only_in_between_is_not_to_do_again(place):
    shutil.rmtree("runs/decompose")
    assert states("s.toml")["decompose subj01-all"] == "not needed"
    before = files(place / "runs")
    invoked("run", "s.toml")
    assert files(place / "runs") == before
    # and made again when a change needs it
    invoked("decode", "s.toml", "--force")
    assert states("s.toml")["decompose subj01-all"] == "done"


def test_clean_removes_what_no_study_makes_and_nothing_else(place):
    invoked("evaluate", "s.toml", "--set", "evaluate.bootstrap=30")
    answers = pd.DataFrame({"rater": ["a"]})
    keep(Study.load("s.toml"), answers)
    kept = {path for path in files(place / "runs") if "decompose" not in path.parts}
    listed = records("clean", "s.toml", "--dry-run")
    reasons = {Path(row["path"]).parts[-2]: row["why"] for row in listed}
    assert reasons == {
        "decompose": "needed only in between",
        "evaluate": f"no study file in {place} makes it",
    }
    assert files(place / "runs") >= kept
    assert invoked("clean", "s.toml", input="n\n", code=1)
    assert files(place / "runs") >= kept
    invoked("clean", "s.toml", "--yes")
    left = files(place / "runs")
    assert {path.relative_to(place).parts[1] for path in kept - left} == {"evaluate"}
    assert left & {path for path in kept if "answers" in path.parts}
    assert set(states("s.toml").values()) >= {"done", "not needed"}
    assert "0 results to remove" in invoked("clean", "s.toml")


def test_clean_keeps_what_another_study_file_makes(place):
    (place / "other.toml").write_text(STUDY.replace("bootstrap = 20", "bootstrap = 30"))
    invoked("evaluate", "other.toml")
    shutil.rmtree("runs/decompose")
    assert records("clean", "s.toml", "--dry-run") == []


def test_clean_refuses_while_a_study_file_cannot_be_read(place):
    (place / "broken.toml").write_text("name = ")
    before = files(place / "runs")
    result = CliRunner().invoke(app, ["clean", "s.toml", "--yes"])
    assert result.exit_code == 1
    assert "broken.toml" in result.stderr and "nothing is removed" in result.stderr
    assert files(place / "runs") == before


def test_clean_refuses_while_data_of_another_study_are_missing(place):
    shutil.copy(preset_file("demo"), place / "demo.toml")
    invoked("evaluate", "s.toml", "--set", "evaluate.bootstrap=30")
    before = files(place)
    result = CliRunner().invoke(app, ["clean", "s.toml", "--yes"])
    assert result.exit_code == 1 and "demo.toml" in result.stderr
    assert files(place) == before  # nothing is simulated either


def test_clean_takes_files_of_other_programs_for_what_they_are(place):
    (place / "pyproject.toml").write_text('[project]\nname = "lab"\n')
    shutil.rmtree("runs/decompose")
    assert records("clean", "s.toml", "--dry-run") == []


def test_clean_leaves_what_may_be_growing(place):
    folder = place / "runs/evaluate/subj01-0123456789"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts/plan.json").write_text('{"n_parts": 2}')
    old = time.time() - 3 * 86400
    os.utime(folder, (old, old))
    invoked("clean", "s.toml", "--yes")
    assert folder.is_dir()  # a part may have been written a moment ago
    os.utime(folder / "parts", (old, old))
    invoked("clean", "s.toml", "--yes")
    assert not folder.exists()


def test_clean_leaves_what_lies_behind_a_link(place):
    invoked("evaluate", "s.toml", "--set", "evaluate.bootstrap=30")
    (place / "runs/evaluate").rename(place / "elsewhere")
    (place / "runs/evaluate").symlink_to(place / "elsewhere")
    before = files(place / "elsewhere")
    invoked("clean", "s.toml", "--yes")
    assert len(before) > 2 and files(place / "elsewhere") == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        "{}",
        '{"recipe": "x"}',
        '{"recipe": {"settings": 1}, "facts": []}',
        '{"recipe": {}, "files": {"a": 1}, "parts": [], "facts": {}}',
    ],
)
def test_a_damaged_manifest_is_a_result_that_is_not_finished(place, content):
    [manifest] = (place / "runs/evaluate").glob("*/manifest.json")
    manifest.write_text(content)
    assert states("s.toml")["evaluate subj01"] == "damaged"
    [row] = [row for row in records("results", "s.toml") if row["stage"] == "evaluate"]
    assert row["differs"] == "as the study, not finished"
    assert row["path"] not in {other["path"] for other in records("clean", "s.toml", "--dry-run")}


@pytest.mark.parametrize("command", ["betas", "extract", "decode", "evaluate", "report", "audit"])
def test_a_dry_run_says_what_is_to_do_and_makes_nothing(place, command):
    before = files(place / "runs")
    text = invoked(command, "s.toml", "--dry-run", "--set", "reconstruct.strength=0.7")
    assert "to do" in text or "Nothing is left to do." in text
    assert files(place / "runs") == before


def test_finished_steps_cost_nothing(place):
    assert "Nothing is left to do." in invoked("report", "s.toml", "--dry-run")
    text = invoked("report", "s.toml", "--dry-run", "--set", "evaluate.bootstrap=30")
    table = text[text.index("Estimated cost") :]
    assert "evaluate" in table and "extract" not in table


def test_a_dry_run_with_force_lists_what_is_made_anew(place):
    rows = {row["stage"]: row["state"] for row in records("run", "s.toml", "--dry-run", "--force")}
    assert (rows["report"], rows["evaluate"]) == ("to do", "done")


def test_a_damaged_result_is_named_as_such(place):
    [scores] = (place / "runs/evaluate").glob("*/scores*")
    shutil.rmtree(scores) if scores.is_dir() else scores.unlink()
    assert states("s.toml")["evaluate subj01"] == "damaged"
    invoked("run", "s.toml")
    assert states("s.toml")["evaluate subj01"] == "done"


def test_force_makes_the_results_of_its_command_anew_and_nothing_else(place):
    times = {path: path.stat().st_mtime_ns for path in files(place / "runs")}
    invoked("evaluate", "s.toml", "--force")
    changed = {path for path in files(place / "runs") if path.stat().st_mtime_ns != times.get(path)}
    assert {path.relative_to(place).parts[1] for path in changed} == {"evaluate"}


@pytest.mark.parametrize("words", [["status"], ["run"], ["results"], ["clean", "--dry-run"]])
def test_a_finished_study_needs_no_torch(place, words):
    code = (
        "import sys; from phosphene.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, words[0], "s.toml", *words[1:]]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (104e6, "104 MB"),
        (2.5e9, "2.5 GB"),
        (3e13, "30 TB"),
    ],
)
def test_bytes_have_a_unit_that_suits(number, text):
    assert in_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "< 1 s"), (41, "41 s"), (204, "3.4 min"), (1200, "20 min"), (9000, "2.5 h")],
)
def test_times_have_a_unit_that_suits(seconds, text):
    assert in_time(seconds) == text
