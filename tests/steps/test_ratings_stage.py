"""The human study of a small study: trial list and pictures, links, answers through to the scores
and the report.
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import phosphene as ph
from phosphene.cli.app import app
from phosphene.errors import PhospheneError
from phosphene.models.preparing import resize
from phosphene.pipeline.graph import make
from phosphene.pipeline.store import Artefact
from phosphene.ratings.power import simulate
from phosphene.ratings.server import links
from phosphene.ratings.trials import design
from phosphene.ratings.trials.balance import balance
from phosphene.reporting import people
from phosphene.reporting.page import render
from phosphene.steps import evaluate, ratings
from phosphene.steps.evaluate import Evaluate
from phosphene.steps.ratings import Ratings, RatingScores, answers_are_scored, answers_folder
from phosphene.steps.ratings.scoring import scored
from phosphene.steps.ratings.serving import open_study
from phosphene.steps.ratings.trial_list import encoded, pool
from phosphene.steps.report import Report, _people
from phosphene.steps.subject import dataset, items
from phosphene.study import Compute, Study
from support.environment import ENVIRONMENT
from support.ratings_example import Clock
from support.report_example import example

STUDY = """
name = "small"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 40
images_own = 46
repeats = 2
sessions = 2
[reconstruct]
samples = 2
steps = 2
baselines = []
[evaluate]
bootstrap = 50
permutations = 20
[rate]
raters = 4
catch = 4
repeats = 5
"""
QUIET = Compute(threads=1, progress=False)
SKILL = {"z": 0.7, "c": 0.8, "zc": 0.95}
CUT = ".*a blind list shows a rater one photograph of a pair"
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*voxels have no data", "ignore:.*of the targets chose", f"ignore:{CUT}"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ratings")
    (folder / "small.toml").write_text(STUDY)
    return Study.load(folder / "small.toml", root=folder / "runs")


@pytest.fixture(scope="module")
def made(study):
    return make([Evaluate(study, "subj01"), Ratings(study)], QUIET)[1]


@pytest.fixture(scope="module")
def answers(made):
    return simulate(made.table("trials"), SKILL, np.random.default_rng(1), lapse=0.0)


@pytest.fixture
def apart(study, made, tmp_path):
    """The same results in a folder of their own, for answers of their own."""
    shutil.copytree(
        study.root,
        tmp_path / "runs",
        ignore=shutil.ignore_patterns("answers", "rating_scores", "report"),
    )
    shutil.copy(study.folder / "small.toml", tmp_path)
    (tmp_path / "data").symlink_to(study.folder / "data")
    return Study.load(tmp_path / "small.toml", root=tmp_path / "runs")


def made_list(study: Study, compute: Compute = QUIET) -> Artefact:
    """The trial list, finished."""
    return make([Ratings(study)], compute)[0]


def scores(study: Study, answers: pd.DataFrame) -> Artefact:
    """The scores of these answers, finished."""
    ratings.keep(study, answers)
    return make([RatingScores(study)], QUIET)[0]


def rate(study: Study, action: str, *words: str):
    path = str(study.folder / "small.toml")
    return CliRunner().invoke(app, ["rate", action, path, *words, "--threads", "1"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# make


def test_the_list_is_balanced_blind_and_made_of_all_test_pictures(study, made):
    trials = made.table("trials")
    images = pool(study)
    measured = balance(trials, images)
    assert (
        measured["images"] == 1
        and measured["twice"] == measured["in_a_row"] == measured["unswapped"] == 0
    )
    assert measured["partners"] == measured["both"] == measured["ids"] == 0
    assert trials.groupby(["slot", "kind"]).size().unstack().loc[0].to_dict() == {
        "catch": 4,
        "repeat": 5,
        "trial": 48,
    }
    assert set(trials["image"]) == set(items(study, dataset(study, "subj01"))["image"])
    pd.testing.assert_frame_equal(made.table("picture_ids"), design.pictures(trials))


def test_sizes_that_had_to_be_cut_are_told(study, apart):
    other = apart.replace("rate.methods", ["c"])
    with pytest.warns(
        UserWarning, match=rf"40 test images make 20 pairs{CUT}: 16 .*trials: 100.* 4 catch"
    ):
        made_list(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made_list(other)  # made already
        made_list(other.replace("rate.trials", 16))


def test_made_again_it_is_the_same_to_the_last_byte(study, made, apart):
    before = {name: data for name, data in files(made.path).items() if name != "manifest.json"}
    made_list(apart).clear()
    again = made_list(apart, Compute(threads=1, progress=False, jobs=2, backend="serial"))
    assert {
        name: data for name, data in files(again.path).items() if name != "manifest.json"
    } == before
    assert len(before) == 2 + made.table("picture_ids")["file"].nunique()


def test_pictures_are_what_the_list_says(study, made):
    data = dataset(study, "subj01")
    table = design.pictures(made.table("trials"))
    images = items(study, data)["image"].to_numpy()
    recons = {mode: evaluate.reconstructed(study, "subj01", mode)[0] for mode in ("z", "c", "zc")}
    side = recons["z"][0].shape[0]
    for row in table.drop_duplicates("file").itertuples():
        shown = np.asarray(Image.open(made.file(f"pictures/{row.file}.png")))
        photograph = resize(data.images([images[row.item]]), side)[0]
        if row.method in recons:
            np.testing.assert_array_equal(shown, recons[row.method][row.item])
        elif row.method == "":
            np.testing.assert_array_equal(shown, photograph)
        else:  # changed, but nearer to its photograph than any other photograph is
            distance = np.abs(resize(data.images(images), side).astype(int) - shown).mean((1, 2, 3))
            assert distance.argmin() == row.item and distance.min() > 0
    assert set(table["method"]) == {"", "z", "c", "zc", "catch"}


def chunks(data: bytes) -> list[str]:
    """Kinds of the chunks of a PNG file."""
    found = []
    at = 8
    while at < len(data):
        found.append(data[at + 4 : at + 8].decode())
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found


def test_pictures_tell_nothing_of_where_they_come_from(study, made):
    original = next((study.root / "reconstruct").rglob("item*.png")).read_bytes()
    assert b"recipe" in original and "tEXt" in chunks(original)  # what must not come through
    shapes = set()
    for path in (made.path / "pictures").iterdir():
        data = path.read_bytes()
        assert set(chunks(data)) <= {"IHDR", "IDAT", "IEND"} and chunks(data).count("IHDR") == 1
        assert b"phosphene" not in data and b"recipe" not in data
        shapes.add((*Image.open(io.BytesIO(data)).size, Image.open(io.BytesIO(data)).mode))
    assert len(shapes) == 1
    contents = [path.read_bytes() for path in (made.path / "pictures").iterdir()]
    assert len(set(contents)) == len(contents) < made.table("picture_ids")["id"].nunique()


def test_large_pictures_are_jpeg_without_a_word():
    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    ending, data = encoded(picture)
    assert ending == "jpg" and encoded(picture)[1] == data
    image = Image.open(io.BytesIO(data))
    assert image.size == (256, 256) and not image.getexif() and "comment" not in image.info
    smooth = np.asarray(
        Image.fromarray(picture[:8, :8]).resize((256, 256), Image.Resampling.BICUBIC)
    )
    back = np.asarray(Image.open(io.BytesIO(encoded(smooth)[1]))).astype(int)
    assert np.abs(back - smooth).mean() < 1.5


def test_nobody_can_try_out_all_lists(study, made):
    """Everything random follows from the recipe: from all 512 bits of its digest, not from the 40
    of its hash.

    One picture id tells whether a guess is right, so that whoever could try all keys would know
    every answer.
    """
    recipe = made.recipe
    assert len(recipe.digest) == 128 and recipe.digest[:10] != recipe.hash
    sizes = design.Sizes(study.rate.raters, study.rate.trials, study.rate.catch, study.rate.repeats)
    keys = (recipe.digest, recipe.hash)
    lists = [
        design.plan(pool(study), ratings.methods(study), sizes, (study.seed, key)) for key in keys
    ]
    table = made.table("trials")
    assert lists[0]["photo"].tolist() == table["photo"].tolist()
    assert not set(lists[1]["photo"]) & set(table["photo"])


def test_what_the_list_depends_on(study):
    own = Ratings(study).hash
    for key, value in (
        ("rate.title", "x"),
        ("rate.database", "sqlite:///x"),
        ("rate.least_catch", 0.5),
        ("evaluate.bootstrap", 9),
        ("rate.break_every", 5),
        ("rate.methods", ["z", "c", "zc"]),
    ):
        assert Ratings(study.replace(key, value)).hash == own, key
    for key, value in (
        ("rate.raters", 5),
        ("rate.trials", 6),
        ("rate.catch", 0),
        ("seed", 1),
        ("rate.sample", 1),
        ("rate.methods", ["zc"]),
        ("reconstruct.steps", 3),
    ):
        assert Ratings(study.replace(key, value)).hash != own, key


def test_another_sample_is_shown_when_asked_for(apart):
    other = apart.replace("rate.sample", 1).replace("rate.methods", ["c"])
    found = made_list(other)
    row = design.pictures(found.table("trials")).query("method == 'c'").iloc[0]
    expected = evaluate.reconstructed(other, "subj01", "c")[1][row["item"]]
    np.testing.assert_array_equal(
        np.asarray(Image.open(found.file(f"pictures/{row['file']}.png"))), expected
    )
    with pytest.raises(PhospheneError, match="rate.sample: found 2, but c of subj01 has 2 samples"):
        made_list(apart.replace("rate.sample", 2).replace("rate.methods", ["c"]))


def test_without_photographs_there_is_nothing_to_compare_with(study, monkeypatch):
    monkeypatch.setattr(dataset(study, "subj01"), "photographs", False)
    with pytest.raises(PhospheneError, match="needs data with photographs"):
        made_list(study.replace("rate.raters", 2))


# links


def test_the_secret_is_for_its_owner_alone_and_links_come_again(tmp_path):
    path = tmp_path / "answers" / "secret"
    first = links.secret(path)
    assert (
        stat.S_IMODE(path.stat().st_mode) == 0o600
        and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    )
    assert links.secret(path) == first != links.secret(tmp_path / "other")
    path.chmod(0o644)
    links.secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(PhospheneError, match="holds no secret"):
        links.secret(path)


def test_tokens_cannot_be_told_from_each_other(tmp_path):
    one = links.secret(tmp_path / "a")
    other = links.secret(tmp_path / "b")
    tokens = [
        links.token(key, name) for key in (one, other) for name in ("rater/0", "rater/1", "admin")
    ]
    assert len(set(tokens)) == 6 and {len(token) for token in tokens} == {32}
    found = links.addresses("https://rate.example/", {0: "t0", 11: "t1"}, "ad")
    assert found == {
        "rater00": "https://rate.example/r/t0",
        "rater11": "https://rate.example/r/t1",
        "admin": "https://rate.example/a/ad",
    }
    links.write(tmp_path / "links.csv", found)
    links.write(tmp_path / "links.csv", found)
    assert stat.S_IMODE((tmp_path / "links.csv").stat().st_mode) == 0o600
    assert pd.read_csv(tmp_path / "links.csv")["link"].tolist() == list(found.values())


# answers -> scores -> report


def test_answers_go_through_to_the_scores_and_the_report(apart, answers, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("phosphene.ratings.server.answers.datetime", clock)
    opened, tokens, _ = open_study(apart, QUIET)
    for slot, token in tokens.items():
        rater = opened.rater(token)
        opened.consent(rater, "A text.")
        for row in answers[answers["slot"] == slot].itertuples():
            clock.wait(row.milliseconds + 300)
            opened.answer(rater, row.position, row.choice, row.milliseconds)
    opened.close()
    done = rate(apart, "score", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    counted = answers[answers["kind"] == "trial"].groupby("method")["hit"].mean()
    assert {row["method"]: row["accuracy"] for row in found["accuracy"]} == pytest.approx(
        counted.to_dict()
    )
    assert [row["method"] for row in found["accuracy"]] == ["z", "c", "zc"]
    assert [(row["a"], row["b"]) for row in found["compare"]][:3] == [
        ("z", "c"),
        ("z", "zc"),
        ("c", "zc"),
    ]
    assert {row["method"] for row in found["predicts"]} == {"z", "c", "zc"} and found[
        "absent"
    ] == []
    printed = rate(apart, "score").output
    assert "Raters: 4 of 4 stay" in printed and f"{100 * counted['zc']:.1f}" in printed

    page = ph.report(apart, QUIET).read_text()
    section = page[page.index('<section id="people"') : page.index('<section id="decoding"')]
    for name in SKILL:
        assert f"<b>{100 * counted[name]:.1f}</b>" in section
    n_images = answers.loc[answers["kind"] == "trial", "image"].nunique()
    assert "4 people chose" in section and f"192 choices about {n_images} photographs" in section
    assert 'href="#people"' in page


def test_an_import_gives_the_same_scores_as_the_database_would(apart, answers, tmp_path):
    renamed = answers.rename(columns={"rater": "participant", "method": "condition"}).drop(
        columns=["slot"]
    )
    renamed.to_csv(tmp_path / "them.csv", index=False)
    words = ["score", "--import", str(tmp_path / "them.csv"), "--json"]
    done = rate(apart, *words, "--column", "rater=participant", "--column", "method=condition")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    direct = scores(apart, answers)
    for name in ("accuracy", "compare", "odds", "consistency", "exclusions", "predicts"):
        theirs = pd.DataFrame(found[name])
        ours = direct.table(name)
        assert len(ours) == len(theirs) > 0
        numbers = [
            c for c in ours if pd.api.types.is_numeric_dtype(ours[c]) and ours[c].notna().all()
        ]
        np.testing.assert_allclose(
            theirs[numbers].to_numpy(float), ours[numbers].to_numpy(float), rtol=1e-6, atol=1e-9
        )


def test_other_answers_or_rules_are_other_scores(apart, answers):
    assert not answers_are_scored(apart) and _people(Report(apart)) == {}
    before = Report(apart).hash
    first = scores(apart, answers)
    assert RatingScores(apart).recipe == first.recipe and Report(apart).hash != before
    assert RatingScores(apart.replace("rate.least_catch", 0.5)).hash != first.hash
    assert RatingScores(apart.replace("rate.title", "x")).hash == first.hash
    assert scores(apart, answers[answers["slot"] > 0]).hash != first.hash


def test_when_everyone_is_left_out_it_says_so(apart, made, tmp_path):
    careless = simulate(made.table("trials"), SKILL, np.random.default_rng(0), careless=1.0)
    careless.to_csv(tmp_path / "careless.csv", index=False)
    done = rate(apart, "score", "--import", str(tmp_path / "careless.csv"))
    assert done.exit_code == 0, done.output
    assert (
        "Raters: 0 of 4 stay" in done.stdout
        and "Left out: accuracy, compare, odds, agreement, predicts: answers: none of"
        in done.stderr
    )
    assert people.section(_people(Report(apart)), pd.DataFrame()) is None


def test_force_never_touches_answers(apart, answers):
    scores(apart, answers)
    links.secret(answers_folder(apart) / "secret")
    before = files(answers_folder(apart))
    assert rate(apart, "make", "--force").exit_code == 0
    assert files(answers_folder(apart)) == before and {"secret", "answers.parquet"} <= set(before)


def test_a_database_password_reaches_no_report(study):
    secret = study.replace("rate.database", "postgresql+psycopg://rate:hunter2@db/rate")
    for step in (Report(secret), Ratings(secret)):
        assert "hunter2" not in step.recipe.canonical
    assert Report(secret).hash == Report(study).hash


# the report's section, on made-up content


@pytest.fixture(scope="module")
def tables(answers, study):
    content = example()
    own = content.per_image.assign(image=content.per_image["item"])
    answers = answers.assign(image=answers["item"])
    return scored(study, answers, own)


def test_the_section_stands_only_where_people_were_asked(tables):
    content = example()
    assert "What people saw" not in render(content)
    text = render(replace(content, people=tables))
    assert text.count(">What people saw</h2>") == 1 and "is more like a photograph" in text


def test_the_best_metric_is_the_one_that_agrees_most_with_people():
    predicts = pd.DataFrame(
        [
            ("z", "scenes", "pixels", "takagi2023", 0.5),
            ("c", "scenes", "pixels", "takagi2023", 0.1),
            ("z", "scenes", "judge-late", "takagi2023", 0.4),
            ("c", "scenes", "judge-late", "takagi2023", 0.4),
            ("z", "mindeye", "Eff", "", 0.9),
            ("c", "mindeye", "Eff", "", 0.9),
        ],
        columns=["method", "preset", "metric", "direction", "r"],
    )
    assert people.best_metric(predicts) == (
        "scenes",
        "judge-late",
        "takagi2023",
        pytest.approx(0.4),
    )
    assert (
        people.best_metric(predicts.assign(r=np.nan)) is None
        and people.best_metric(predicts.iloc[:0]) is None
    )


def test_machine_and_people_stand_beside_each_other_with_their_own_numbers(tables):
    content = example(["subj01", "subj02"])
    found = people.section(tables, content.scores)
    preset, metric = found["metric"].split(" ", 1)
    rows = content.scores[
        (content.scores["preset"] == preset) & (content.scores["metric"] == metric)
    ]
    rows = rows[(rows["source"] == "brain") & (rows["direction"] == found["direction"])]
    own = "mean" if preset == "scenes" else "single"
    for line in found["rows"]:
        mean = rows[(rows["mode"] == line["name"]) & (rows["selection"] == own)]["value"].mean()
        assert line["machine"].text == f"{100 * mean:.1f}"
        right = tables["accuracy"].set_index("method").loc[line["name"], "accuracy"]
        assert line["people"].text == f"{100 * right:.1f}"
    assert found["figure"].count("<svg") == 1 and 'role="img"' in found["figure"]
    assert found["figure"] == people.section(tables, content.scores)["figure"]


# the command


def test_power_is_asked_without_any_data(study):
    done = rate(study, "power", "--raters", "4,20", "--trials", "20", "--json")
    rows = json.loads(done.stdout)
    assert [row["raters"] for row in rows] == [4, 4, 4, 20, 20, 20]
    assert rows[5]["power_image"] > rows[0]["power_image"]
    assert "better by" in rate(study, "power", "--raters", "3", "--trials", "20").output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["power", "--raters", "six"], "--raters: found 'six'"),
        (["make", "--raters", "0"], "'rate.raters' must be at least 1"),
        (["score", "--column", "rater=x"], "--column: found without --import"),
        (["score", "--import", "x.csv", "--column", "rater"], "expected OURS=THEIRS"),
        (["score", "--import", "nowhere.csv"], "nowhere.csv"),
        (["score", "--raters", "3"], "no answers yet for this trial list"),
        (["make", "--set", "rate.methods=['q']"], "'rate.methods' is 'q'"),
        (["make", "--trials", "3"], "3 trials per method of 20 pairs of test images"),
        (["serve", "--set", "rate.consent=nowhere.txt"], "rate.consent"),
        (["serve", "--database", "nonsense"], "rate.database"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(study, made, words, sentence):
    done = rate(study, *words)
    assert done.exit_code == 1 and sentence in " ".join(done.output.split()), done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("words", [["make", "--raters", "6,7"], ["make", "--import", "x.csv"]])
def test_options_of_other_commands_are_usage_errors(study, words):
    assert rate(study, *words).exit_code == 2


def test_the_old_order_of_words_works_with_a_hint(study, made):
    path = str(study.folder / "small.toml")
    done = CliRunner().invoke(app, ["rate", path, "make", "--dry-run"])
    assert done.exit_code == 0 and made.hash in done.stdout
    assert "the order is now `phosphene rate make STUDY`" in done.stderr
    assert CliRunner().invoke(app, ["rate", path, "paint"]).exit_code == 2


def test_a_dry_run_does_nothing(study, made):
    def files():  # SQLite's own go when a connection that an earlier test left is collected
        return {path for path in study.root.rglob("*") if not path.name.endswith(("-shm", "-wal"))}

    before = files()
    for action in ("make", "serve", "score"):
        done = rate(study, action, "--dry-run")
        assert done.exit_code == 0 and made.hash in done.output
    assert files() == before


def test_the_server_prints_links_that_open_and_stops_when_told(apart):
    (apart.folder / "agree.txt").write_text("We store nothing but clicks.")
    command = [
        sys.executable,
        "-m",
        "phosphene.cli",
        "rate",
        "serve",
        "small.toml",
        "--port",
        "0",
        "--json",
        "--show-links",
        "--set",
        "rate.consent=agree.txt",
        "--set",
        "rate.title=Look",
    ]
    server = subprocess.Popen(
        command, cwd=apart.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        found = json.loads(server.stdout.readline())
        assert list(found) == [*(f"rater{k:02d}" for k in range(4)), "admin"]
        page = urllib.request.urlopen(found["rater01"], timeout=10).read().decode()
        assert "We store nothing but clicks." in page and "<title>Look" in page
        assert "rater03" in urllib.request.urlopen(found["admin"], timeout=10).read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(found["rater01"][:-1] + "x", timeout=10)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)
    assert list(pd.read_csv(answers_folder(apart) / "links.csv")["link"]) == [
        link for name, link in found.items() if name != "admin"
    ]
    assert "nobody has answered yet" in rate(apart, "score").output
