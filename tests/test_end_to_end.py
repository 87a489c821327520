"""The whole path through the command line, on a small simulated experiment: results, kills,
backends, refusals.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import phosphene as ph
from phosphene.cli.app import app
from support.environment import SHARED

STUDY = """
name = "small"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 10
images_own = 40
repeats = 2
sessions = 2
[reconstruct]
samples = 2
steps = 5
[evaluate]
bootstrap = 50
permutations = 50
"""
STAGES = ("betas", "extract", "decompose", "decode", "reconstruct", "evaluate", "report")


def phosphene(*words: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "phosphene.cli", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def rows_of_run(*words: str, cwd: Path) -> list[dict[str, Any]]:
    """What `status` says of the results of `run`."""
    rows = json.loads(phosphene("status", *words, cwd=cwd).stdout)
    return [row for row in rows if row["command"] == "run"]


def bits(root: Path) -> dict[str, bytes]:
    """Every file of a results folder; manifests hold dates and seconds, `perceptual` keeps
    features: no results.
    """
    files = (f for f in root.rglob("*") if f.is_file() and f.name != "manifest.json")
    files = (f for f in files if not {".tmp", "perceptual"} & set(f.parts))
    return {str(f.relative_to(root)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with its data and one uninterrupted run."""
    place = tmp_path_factory.mktemp("small")
    (place / "small.toml").write_text(STUDY)
    phosphene("run", "small.toml", cwd=place)
    return place


@pytest.fixture(scope="module")
def study(folder):
    return ph.Study.load(folder / "small.toml", root=folder / "runs")


def test_every_stage_leaves_finished_artefacts(folder):
    for stage in STAGES:
        manifests = list((folder / "runs" / stage).glob("*/manifest.json"))
        assert manifests, stage
        for manifest in manifests:
            about = json.loads(manifest.read_text())
            assert about["recipe"]["stage"] == stage
            assert {"seconds", "peak_memory_mb", "packages", "date"} <= about["facts"].keys()


def test_scores_are_tidy_and_in_range(study):
    scores = ph.evaluate(study)
    columns = [
        "subject",
        "mode",
        "source",
        "space",
        "preset",
        "direction",
        "selection",
        "accuracy",
        "ci_low",
        "ci_high",
        "p",
        "n",
        "samples",
    ]
    assert list(scores.columns) == columns
    rules = scores.groupby(["mode", "source"])["selection"].agg(
        lambda found: ",".join(dict.fromkeys(found))
    )
    assert rules["z", "brain"] == "mean"  # one picture: nothing to choose
    # no latent was decoded
    assert rules["c", "brain"] == rules["zc", "true"] == "mean,single,oracle"
    assert rules["zc", "brain"] == rules["zc", "shuffled"] == "mean,single,decoded,oracle"
    assert len(scores) == (1 + 3 + 4 + 4 + 3) * 4 * 2  # rules, spaces, both ways round
    assert scores["accuracy"].between(0, 1).all() and (scores["ci_low"] <= scores["ci_high"]).all()
    assert (scores["n"] == 10).all()
    assert set(scores["source"]) == {"brain", "shuffled", "true"}


def test_modes_without_zc(folder, tmp_path):
    """The shuffled brain is drawn in one mode only, but all of its features are compared."""
    shutil.copytree(folder / "runs", tmp_path / "runs")
    words = [
        "small.toml",
        "--root",
        str(tmp_path / "runs"),
        "--set",
        'reconstruct.modes=["z", "c"]',
        "--json",
    ]
    found = json.loads(phosphene("run", *words, cwd=folder).stdout)
    kinds = {(row["mode"], row["source"]) for row in found["scores"]}
    assert kinds >= {("z", "brain"), ("c", "brain"), ("z", "shuffled")}
    assert {row["state"] for row in rows_of_run(*words, cwd=folder)} == {"done"}


def test_pictures_say_what_they_were_made_from(folder):
    files = sorted((folder / "runs/reconstruct").glob("subj01-zc-*/pictures/*.png"))
    picture = Image.open(
        next(f for f in files if "true" not in str(f) and "shuffled" not in str(f))
    )
    about = json.loads(picture.text["phosphene"])
    assert picture.size == (64, 64)
    assert about["recipe"]["settings"]["mode"] == "zc" and about["recipe"]["settings"]["steps"] == 5


def test_results_can_be_read_without_phosphene(folder):
    import zarr

    artefact = next((folder / "runs/decode").glob("subj01-z-[0-9a-f]*"))
    prediction = zarr.open_array(artefact / "prediction", mode="r")
    assert prediction.shape == (10, 1024) and np.isfinite(prediction[:]).all()
    scores = pd.read_parquet(next((folder / "runs/evaluate").glob("*/scores")))
    assert {"preset", "metric", "direction", "selection", "value"} <= set(scores.columns)


def test_the_report_stands_alone(study):
    page = ph.report(study).read_text()
    # ten items seen and drawn in three ways
    assert page.count("<img") >= 40 and "data:image/png;base64" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)|url\((?!["']?(data:|#))""", page)
    assert "simulated" in page and "shuffled brain" in page


def test_a_second_run_changes_nothing(folder):
    before = {f: f.stat().st_mtime_ns for f in (folder / "runs").rglob("*") if f.is_file()}
    phosphene("run", "small.toml", cwd=folder)
    assert before == {f: f.stat().st_mtime_ns for f in (folder / "runs").rglob("*") if f.is_file()}


def test_status_and_json(folder):
    rows = rows_of_run("small.toml", "--json", cwd=folder)
    assert {row["stage"] for row in rows} == set(STAGES) and {row["state"] for row in rows} == {
        "done"
    }
    changed = rows_of_run("small.toml", "--set", "reconstruct.guidance=3.0", "--json", cwd=folder)
    states = {(row["stage"], row["state"]) for row in changed}
    notes = {row["note"] for row in changed if row["stage"] == "reconstruct"}
    assert "there is one made with guidance = 5.0 (now 3.0)" in notes
    assert (
        ("decode", "done") in states
        and ("reconstruct", "to do") in states
        and ("report", "to do") in states
    )


def test_the_plan_counts_what_a_run_makes(folder, study, tmp_path):
    import zarr

    from phosphene.steps.cost import costs
    from phosphene.steps.plan import report

    assert costs(study, report(study), ph.Compute()) == []  # nothing is left to do
    anew = ph.Study.from_dict(study.to_dict(), root=tmp_path, folder=study.folder)
    estimated = costs(anew, report(anew), ph.Compute())
    assert {group[0].stage for group, _ in estimated} == set(STAGES)
    found = {(group[0].stage, group[0].name): cost for group, cost in estimated}
    assert found.pop(("report", "small")) is None  # nobody can say
    made = list((folder / "runs/betas").glob("subj01-*"))
    size = sum(
        zarr.open_array(array, mode="r").nbytes
        for one in made
        for array in (one / "betas").glob("session*")
    )
    betas = [cost for (stage, _), cost in found.items() if stage == "betas"]
    assert sum(cost.files for cost in betas) == len(made)
    assert sum(cost.gb for cost in betas) == pytest.approx(size / 1e9)
    for mode in ("z", "c", "zc"):
        pictures = list(folder.glob(f"runs/reconstruct/subj01-{mode}-??????????/*/*"))
        assert found["reconstruct", f"subj01-{mode}"].files == len(pictures)
    assert all(cost.seconds >= 0 and cost.memory_gb > 0 for cost in found.values())
    assert not any(tmp_path.iterdir())


def wait_for(pattern: str, root: Path, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not any(root.glob(pattern)):
        time.sleep(0.005)


def test_killed_in_every_stage_it_ends_with_the_same_bits(folder, tmp_path):
    shutil.copy(folder / "small.toml", tmp_path)
    (tmp_path / "data").symlink_to(folder / "data")
    root = tmp_path / "runs"
    killed = []
    for stage in STAGES:
        process = subprocess.Popen(
            [sys.executable, "-m", "phosphene.cli", "run", "small.toml"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(f"{stage}/*/parts/*", root, process)
        process.send_signal(signal.SIGKILL)
        killed.append(process.wait())
    # the report is one short part: it may win the race against its kill
    assert killed.count(-signal.SIGKILL) >= 4
    finished = {m: m.stat().st_mtime_ns for m in root.rglob("manifest.json")}
    phosphene("run", "small.toml", cwd=tmp_path)
    assert bits(root) == bits(folder / "runs")
    assert all(m.stat().st_mtime_ns == when for m, when in finished.items()), (
        "a finished artefact was made again"
    )


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_backends_give_the_same_bits(folder, tmp_path, backend):
    shutil.copy(folder / "small.toml", tmp_path)
    (tmp_path / "data").symlink_to(folder / "data")
    phosphene("run", "small.toml", "--backend", backend, "--jobs", "2", cwd=tmp_path)
    assert bits(tmp_path / "runs") == bits(folder / "runs")


def test_batch_size_does_not_change_pictures(folder, tmp_path):
    shutil.copytree(
        folder, tmp_path / "copy", ignore=shutil.ignore_patterns("data", "report", "evaluate")
    )
    (tmp_path / "copy/data").symlink_to(folder / "data")
    command = (
        "reconstruct",
        "small.toml",
        "--set",
        'reconstruct.modes=["zc"]',
        "--batch",
        "3",
        "--force",
    )
    phosphene(*command, cwd=tmp_path / "copy")
    for file in (folder / "runs/reconstruct").glob("subj01-zc-[0-9a-f]*/pictures/*.png"):
        again = tmp_path / "copy" / file.relative_to(folder)
        difference = np.asarray(Image.open(again)).astype(int) - np.asarray(Image.open(file))
        assert np.abs(difference).max() <= 1  # the order of float sums may round a grey level


def test_a_truncated_file_is_named_and_only_its_part_redone(folder, tmp_path):
    shutil.copytree(folder / "runs", tmp_path / "runs")
    victim = sorted((tmp_path / "runs/reconstruct").glob("subj01-zc-true-*/pictures/*.png"))[0]
    other = (
        sorted((tmp_path / "runs/reconstruct").glob("subj01-c-*/pictures/*.png"))[0]
        .stat()
        .st_mtime_ns
    )
    victim.write_bytes(victim.read_bytes()[:50])
    done = phosphene(
        "run", str(folder / "small.toml"), "--root", str(tmp_path / "runs"), cwd=tmp_path
    )
    assert victim.name in done.stderr and "50 bytes" in done.stderr
    assert bits(tmp_path / "runs") == bits(folder / "runs")
    assert (
        sorted((tmp_path / "runs/reconstruct").glob("subj01-c-*/pictures/*.png"))[0]
        .stat()
        .st_mtime_ns
        == other
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere.toml"], "no such study file"),
        (["run", "small.toml", "--set", "decode.alpha=[1.0]"], "did you mean 'decode.alphas'"),
        (["run", "small.toml", "--set", "reconstruct.steps=fifty"], "reconstruct.steps"),
        (
            [
                "run",
                "small.toml",
                "--set",
                "data.root=/nowhere",
                "--set",
                "data.simulate.enabled=false",
            ],
            "/nowhere",
        ),
        (["run", "small.toml", "--set", "data.sessions=[1, 7]"], "betas_session07"),
        (["run", "small.toml", "--subject", "subj05"], "subj05"),
        (["run", "small.toml", "--set", 'decode.z.rois=["V9"]'], "V9"),
        (["run", "small.toml", "--set", "model.name=nothing"], "model.name"),
        (["run", "small.toml", "--until", "lunch"], "--until"),
        (["run", "small.toml", "--backend", "cloud", "--force"], "backend"),
        (["run", "small.toml", "--set", "data.simulate.noise=2.0"], "noise = 1.0"),
        (["run", "small.toml", "--set", 'decode.leave_out="run"'], "leave_out"),
        (["run", "small.toml", "--set", 'name="my study"'], "names folders"),
        (["run", "small.toml", "--device", "toaster"], "toaster"),
        (["init", ".", "--preset", "other"], "--preset"),
        (
            ["simulate", "small.toml", "--set", "data.simulate.enabled=false"],
            "data.simulate.enabled",
        ),
    ],
)
def test_mistakes_get_one_sentence(folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    before = bits(folder / "runs")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1 and said in errors[0]
    assert before == bits(folder / "runs")


def test_verbose_shows_the_traceback(folder):
    assert "Traceback" in phosphene("run", "nowhere.toml", "-v", cwd=folder, check=False).stderr


def test_a_missing_session_file_is_named(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "data", tmp_path / "data")
    (tmp_path / "small.toml").write_text(
        STUDY.replace('root = "data"', 'root = "data"\nsessions = [1, 2]')
    )
    gone = next((tmp_path / "data/nsddata_betas").rglob("betas_session02.hdf5"))
    gone.unlink()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", "small.toml"])
    assert done.exit_code == 1 and "betas_session02" in done.stderr


def test_init_copies_a_study_that_loads(tmp_path):
    for preset in ("demo", "haxby", "own-data", "nsd-subject", "nsd-paper", "nsd-released"):
        assert CliRunner().invoke(app, ["init", str(tmp_path), "--preset", preset]).exit_code == 0
        assert ph.Study.load(tmp_path / f"{preset}.toml").name == preset
    assert CliRunner().invoke(app, ["init", str(tmp_path)]).exit_code == 1


def test_importing_phosphene_and_asking_for_help_stay_light():
    code = (
        "import sys, phosphene, phosphene.cli.app; print([m for m in ('torch', 'pandas', 'zarr') "
        "if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


HAXBY = SHARED / "data/haxby2001_slice"


@pytest.mark.skipif(not HAXBY.is_dir(), reason=f"measured data are not there: {HAXBY}")
def test_measured_activity_goes_the_same_way(tmp_path):
    CliRunner().invoke(app, ["init", str(tmp_path), "--preset", "haxby"])
    changes = [
        f'data.root="{HAXBY}"',
        "reconstruct.samples=1",
        "reconstruct.steps=2",
        "evaluate.bootstrap=50",
    ]
    words = [word for change in changes for word in ("--set", change)]
    found = json.loads(phosphene("run", "haxby.toml", "--json", *words, cwd=tmp_path).stdout)
    # which photographs were seen is not known, so nothing can be identified
    assert found["scores"] == []
    names = {row["condition"]: row for row in found["names"]}
    assert set(names) == {"c", "c, shuffled brain"}
    assert names["c"]["n"] == 96 and names["c"]["chance"] == 0.125
    page = Path(found["report"]).read_text()
    assert "seen</span>" not in page and page.count("<img") == 96
