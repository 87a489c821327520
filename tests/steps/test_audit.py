"""The audit on a known brain: nothing is wrong with an honest study, and every planted fault is
found, and only it.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import phosphene as ph
from phosphene.auditing import asking, baselines
from phosphene.cli.app import app
from phosphene.data.trials import image_ids, train_trials
from phosphene.errors import PhospheneError
from phosphene.methods import CATEGORY, MEAN
from phosphene.pipeline.graph import make
from phosphene.steps import plan, regression
from phosphene.steps.audit import Audit, audit_table, case_of
from phosphene.steps.decode import Decode
from phosphene.steps.extract import Extract, category_context
from phosphene.steps.reconstruct import Reconstruct, pictures
from phosphene.steps.subject import dataset, items, load_model

STUDY = """
name = "small"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 40
images_own = 200
repeats = 3
sessions = 3
[reconstruct]
samples = 2
steps = 2
[evaluate]
bootstrap = 100
permutations = 20
"""
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*voxels have no data", "ignore:.*of the targets chose"
)
COMPUTE = ph.Compute(threads=1, progress=False)
SUBJECT = "subj01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("audit")
    (place / "small.toml").write_text(STUDY)
    return place


@pytest.fixture(scope="module")
def study(folder):
    return ph.Study.load(folder / "small.toml", root=folder / "runs")


@pytest.fixture(scope="module")
def clean(study):
    """The audit of an honest study."""
    return ph.audit(study, COMPUTE)


@pytest.fixture(scope="module")
def quick(study, clean):
    """The same brain, z alone: its pictures are made without denoising."""
    return study.replace("reconstruct.modes", ["z"])


@pytest.fixture
def apart(quick, tmp_path):
    """A folder of results of its own, for faults that no recipe can know of; pictures' features are
    taken along.
    """
    for stage in ("extract", "betas"):
        shutil.copytree(quick.root / stage, tmp_path / "runs" / stage)
    return ph.Study.from_dict(quick.to_dict(), root=tmp_path / "runs", folder=quick.folder)


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["check"], table["verdict"], strict=True))


def faults(table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["verdict"] == "fault", "check"])


# an honest study


def test_an_honest_study_has_no_fault(clean):
    assert faults(clean) == set()
    found = verdicts(clean)
    must = [
        "leaked test trials",
        "repeats across folds",
        "test-batch rescaling, z",
        "test-batch rescaling, c",
        "effective dimension, c",
        "shuffled brain",
        "mean-feature prediction",
        "true features",
        "clusters held out, z",
        "same category",
        "category with random noise",
    ]
    assert {check: found[check] for check in must} == dict.fromkeys(must, "ok")
    assert "not asked" not in found.values()


def test_every_line_says_what_was_found_and_what_was_expected(clean):
    assert list(clean.columns) == ["subject", "check", "found", "expected", "verdict", "sentence"]
    assert clean["check"].is_unique and set(clean["verdict"]) <= {
        "ok",
        "look",
        "fault",
        "not asked",
    }
    assert (clean[["found", "expected", "sentence"]].map(len) > 0).all(axis=None)
    assert clean["sentence"].str.endswith(".").all() and clean["found"].str.contains(r"\d").all()


def test_tables_for_figures(study, clean):
    (artefact,) = make([Audit(study, SUBJECT)], COMPUTE)
    scores = artefact.table("scores")
    assert set(zip(scores["mode"], scores["source"], strict=True)) == {
        ("zc", "brain"),
        ("zc", "shuffled"),
        ("zc", "true"),
        ("zc", "mean"),
        ("z", "brain"),
        ("c", "brain"),
        ("c", "true"),
        ("c", "category"),
        ("zc", "nearest training picture"),
    }
    overlap = artefact.table("overlap")
    assert overlap.groupby(["feature", "kind"]).size().to_dict() == {
        ("c", "test"): 40,
        ("c", "training"): 200,
        ("z", "test"): 40,
        ("z", "training"): 200,
    }
    assert (overlap["image"] != overlap["nearest"]).all() and overlap["r"].between(-1, 1).all()
    trained = train_trials(dataset(study, SUBJECT))[1]
    assert set(overlap["nearest"]) | set(artefact.table("nearest")["nearest"]) <= set(trained)
    assert set(artefact.table("clusters")["split"]) == {"clusters", "random"}


def test_conditions_score_as_they_do_in_the_evaluation(study, clean):
    from phosphene.steps.evaluate import reconstructed, score_made

    data = dataset(study, SUBJECT)
    scores = make([Audit(study, SUBJECT)], COMPUTE)[0].table("scores")
    again = score_made(study, data, reconstructed(study, SUBJECT, "z")).scores
    ours = scores[(scores["mode"] == "z") & (scores["source"] == "brain")]
    np.testing.assert_array_equal(ours["value"], again["value"])


def test_the_command_prints_one_table_per_verdict(folder, clean, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["audit", "small.toml", "--threads", "1"]
    printed = CliRunner().invoke(app, words)
    assert (
        printed.exit_code == 0
        and "shuffled brain" in printed.output
        and "as it should be" in printed.output
    )
    assert "fault" not in printed.output.splitlines()[0]
    records = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert pd.DataFrame(records).equals(clean)
    assert "done" in CliRunner().invoke(app, [*words, "--dry-run"]).output


# planted faults: the one that was planted is found, and no other


def test_test_trials_that_leaked_into_training(apart, monkeypatch):
    data = dataset(apart, SUBJECT)
    trials = data.trials.copy()
    first = trials[(trials["split"] == "test") & (trials["repeat"] == 0)].index[:6]
    trials.loc[first, "split"] = "train"
    monkeypatch.setattr(data, "trials", trials)
    make(plan.audit(apart), COMPUTE)
    table = audit_table(apart)
    assert faults(table) == {"leaked test trials"}
    assert (
        table.set_index("check")
        .loc["leaked test trials", "found"]
        .startswith("6 of 40 by name, 0 more")
    )


def test_a_test_picture_that_is_a_training_picture_under_another_name(quick, monkeypatch):
    data = dataset(quick, SUBJECT)
    images = dataset(quick, SUBJECT).images
    tested, taught = (
        data.trials.loc[data.trials["split"] == split, "image"].iloc[0]
        for split in ("test", "train")
    )
    monkeypatch.setattr(
        data, "images", lambda ids: images([tested if image == taught else image for image in ids])
    )
    found = asking.leaks(case_of(quick, SUBJECT, COMPUTE))
    assert (
        found.lines[0].verdict == "fault"
        and found.lines[0].found == "0 of 40 by name, 1 more by content"
    )
    assert found.tables["leaks"].to_dict("records") == [{"image": tested, "by": "content"}]


def test_repeats_across_folds(quick):
    table = ph.audit(quick.replace("decode.grouped", False), COMPUTE)
    assert faults(table) == {"repeats across folds"}
    found = table.set_index("check").loc["repeats across folds", "found"]
    assert int(found.split()[0]) > 150  # contiguous folds: few pictures have all repeats in one


def test_repeats_across_the_folds_of_the_paper(quick):
    planted = quick.replace("decode.preset", "paper")
    make([Decode(planted, SUBJECT, "z")], COMPUTE)
    line, edges = asking.penalties(case_of(planted, SUBJECT, COMPUTE)).lines
    assert line.verdict == "fault" and "paper's own" in line.sentence
    assert edges.verdict == "look" and "larger" in edges.sentence  # its grid ends at 1


def test_a_decoder_that_collapsed(quick):
    table = ph.audit(quick.replace("decode.alphas", [1e12]), COMPUTE)
    assert faults(table) == {"effective dimension, z"}


def predicting(change):
    """Decode honestly, then change the predictions."""
    honest = regression.predict

    def predict(study, data, X, Y, shuffled, parts=None):
        found = honest(study, data, X, Y, shuffled, parts)
        rows = np.searchsorted(image_ids(data), np.unique(train_trials(data)[1]))
        made = change(found.prediction.astype(np.float64), Y[rows].astype(np.float64))
        return found._replace(prediction=made.astype(np.float32))

    return predict


def one_line(predicted: np.ndarray, taught: np.ndarray) -> np.ndarray:
    u, s, vt = np.linalg.svd(predicted - taught.mean(0), full_matrices=False)
    return taught.mean(0) + s[0] * np.outer(u[:, 0], vt[0])


def test_a_decoder_that_predicts_variations_of_one_picture(apart, replace_everywhere):
    replace_everywhere(regression, "predict", predicting(one_line))
    assert faults(ph.audit(apart, COMPUTE)) == {"effective dimension, z"}


def as_brain_diffuser(predicted: np.ndarray, taught: np.ndarray) -> np.ndarray:
    return (predicted - predicted.mean(0)) / predicted.std(0) * taught.std(0) + taught.mean(0)


def centred(predicted: np.ndarray, taught: np.ndarray) -> np.ndarray:
    return predicted - predicted.mean(0) + taught.mean(0)


def test_predictions_rescaled_with_test_statistics(apart, replace_everywhere):
    replace_everywhere(regression, "predict", predicting(as_brain_diffuser))
    assert faults(ph.audit(apart, COMPUTE)) == {"test-batch rescaling, z"}


def test_predictions_centred_with_test_statistics(apart, replace_everywhere):
    replace_everywhere(regression, "predict", predicting(centred))
    make([Decode(apart, SUBJECT, "z")], COMPUTE)
    line = asking.statistics(case_of(apart, SUBJECT, COMPUTE)).lines[0]
    assert line.verdict == "fault" and "exactly the mean of the training pictures" in line.sentence


# what cannot be asked, and what was interrupted


def test_planning_reads_no_items(quick):
    """Which are refused here: test pictures of their own, and runs left out in turn."""
    other = quick.replace("decode.leave_out", "run")
    assert Audit(other, SUBJECT).recipe.inputs.keys() >= {"images", "true-z", "decoded-z"}
    with pytest.raises(PhospheneError, match="decode.leave_out"):
        _ = case_of(other, SUBJECT, COMPUTE).items


def test_without_photographs_lines_say_that_they_cannot_be_asked(quick, monkeypatch):
    monkeypatch.setattr(dataset(quick, SUBJECT), "photographs", False)
    case = case_of(quick, SUBJECT, COMPUTE)
    assert baselines.conditions(case) == []
    for ask in (
        asking.leaks,
        asking.statistics,
        asking.overlap,
        asking.held_out,
        baselines.compared,
    ):
        for line in ask(case).lines:
            assert line.verdict == "not asked" and line.sentence.startswith("Cannot be asked")
    assert {line.verdict for line in asking.variety(case).lines} == {"ok"}


def test_without_c_its_lines_cannot_be_asked(quick):
    found = verdicts(ph.audit(quick, COMPUTE))
    asked = {check for check, verdict in found.items() if verdict != "not asked"}
    words = {
        "z only",
        "c only",
        "caption with random noise",
        "category with random noise",
        "best of several samples",
    }
    assert words.isdisjoint(asked) and words <= set(found) and "shuffled brain" in asked


def test_an_audit_that_was_stopped_goes_on(quick, monkeypatch):
    started = quick.replace("evaluate.bootstrap", 101)
    whole = ph.audit(quick, COMPUTE)

    def stop(case) -> None:
        raise PhospheneError("stopped")

    with monkeypatch.context() as patch, pytest.raises(PhospheneError, match="stopped"):
        patch.setattr(asking, "overlap", stop)  # the fifth
        ph.audit(started, COMPUTE)
    for name in ("leaks", "penalties", "statistics", "variety"):
        monkeypatch.setattr(asking, name, stop)
    table = ph.audit(started, COMPUTE)
    assert len(table) == len(whole) and faults(table) == set()


# the sources that audit pictures start from


def test_the_mean_and_the_category_as_sources(study, clean):
    data = dataset(study, SUBJECT)
    model = load_model("bundled", COMPUTE.device)
    ids = image_ids(data)
    wanted = items(study, data)["image"].to_numpy()
    for feature in ("z", "c"):
        true = Extract(study, SUBJECT, feature).artefact.array("features")[:]
        trained = np.searchsorted(ids, train_trials(data)[1])
        rows = Reconstruct(study, SUBJECT, "zc", MEAN)._rows_of(feature, slice(0, 40))
        assert rows.shape == (40, true.shape[1]) and (rows == rows[0]).all()
        np.testing.assert_allclose(
            rows[0], true[trained].astype(float).mean(0), rtol=1e-5, atol=1e-6
        )
    names = data.categories(wanted[:3].tolist())
    expected = model.text_to_context([[", ".join(dict.fromkeys(some))] for some in names])
    np.testing.assert_array_equal(category_context(model, data, wanted[:3].tolist()), expected)
    with pytest.raises(PhospheneError, match="category"):
        make([Reconstruct(study, SUBJECT, "zc", CATEGORY)], COMPUTE)


def test_pictures_from_the_mean_are_all_the_same_without_noise(quick):
    (artefact,) = make([Reconstruct(quick, SUBJECT, "z", MEAN)], COMPUTE)
    made = pictures(artefact, [0, 7, 39])
    assert (made == made[0]).all()
