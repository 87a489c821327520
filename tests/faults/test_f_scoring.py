"""The page and the table of scores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.cli.rating_tables import _between, _ends
from phosphene.metrics.views import SHOWN, best_and_worst, blocks
from phosphene.models.perceptual.weights import why_missing


def pictures(folder, n, noise):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for k in range(n):
        clean = rng.integers(0, 256, (16, 16, 3))
        spoilt = clean + noise * rng.normal(size=clean.shape)
        Image.fromarray(spoilt.clip(0, 255).astype(np.uint8)).save(folder / f"p{k}.png")
    return folder


def score(tmp_path, n=6, noise=40, preset="pixel"):
    made = pictures(tmp_path / "r", n, noise)
    shown = pictures(tmp_path / "o", n, 0)
    page, table = tmp_path / "page.html", tmp_path / "scores.csv"
    words = ["score", str(made), str(shown), "--preset", preset, "--html", str(page)]
    words += ["--csv", str(table), "--bootstrap", "20", "--permutations", "0"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output, page.read_text(), table.read_text()


def series(*values):
    return pd.Series(sorted(values, reverse=True))


@pytest.mark.parametrize(
    "order, groups",
    [
        (series(0.5, 0.4, 0.3, 0.2), {"The best": [0, 1], "The worst": [3, 2]}),
        (series(1.0, 1.0, 1.0, 0.2), {"The best": [0, 1], "The worst": [3]}),
        (series(1.0, 0.9, 0.9, 0.9), {"The best": [0, 1]}),
        (series(*[1.0] * 6), {"Some pictures: all score the same": [0, 1, 2]}),
        (
            series(*range(100)),
            {"The best": list(range(SHOWN)), "The worst": [*range(99, 99 - SHOWN, -1)]},
        ),
    ],
)
def test_f11_best_and_worst_share_no_score(order, groups):
    assert {title: list(chosen.index) for title, chosen in best_and_worst(order)} == groups


def test_f11_a_page_of_ties_shows_one_group(tmp_path):
    _, page, _ = score(tmp_path, noise=0)
    assert "<h2>The worst</h2>" not in page and "all score the same" in page
    names = re.findall(r"<figcaption><span>(p\d)</span>", page)
    assert len(names) == len(set(names)) == 3


def test_f11_empty_columns_are_left_out(tmp_path):
    printed, page, _ = score(tmp_path, preset="pixel")
    head = page[page.index("<thead>") : page.index("</thead>")]
    rows = re.findall(r"<tr>(.*?)</tr>", page[: page.index("</tbody>")], re.DOTALL)
    assert "<th>p</th>" not in head and " p " not in printed.splitlines()[1]
    columns = len(re.findall("<th[ >]", head))
    assert all(len(re.findall("<td[ >]", row)) == columns for row in rows[1:])


def test_f11_a_column_that_one_line_needs_stays(tmp_path):
    score(tmp_path)
    scores = pd.read_csv(tmp_path / "scores.csv").assign(p=np.nan, chance=np.nan)
    (block,) = blocks(scores)
    assert "interval" in block.columns and not {"p", "chance"} & set(block.columns)
    scores.loc[1, ["p", "chance"]] = [0.01, 0.5]
    (block,) = blocks(scores)
    assert block.columns[-2:] == ["p", "chance"]


def test_f11_csv_has_ten_digits(tmp_path):
    _, _, table = score(tmp_path)
    numbers = re.findall(r"\d+\.\d+", table)
    assert numbers and max(len(number.replace(".", "").strip("0")) for number in numbers) == 10


def test_f11_no_interval_where_both_ends_print_equal(tmp_path):
    score(tmp_path)
    scores = pd.read_csv(tmp_path / "scores.csv")
    scores[["ci_low", "ci_high"]] = [[0.5, 0.5000001]] * len(scores)
    (block,) = blocks(scores)
    assert [line.interval for line in block.lines] == [""] * len(block.lines)
    scores["ci_high"] = 0.75
    (block,) = blocks(scores)
    assert all(line.interval in ("0.500 – 0.750", "50.0 – 75.0") for line in block.lines)
    assert _ends(1.0, 0.99999) == "–" and _ends(0.5, 0.75) == "50.0–75.0"
    assert _between(1.0, 1.001) == "–" and _between(1.0, 1.5) == "1.00 to 1.50"
    assert _ends(float("nan"), float("nan")) == "–"


def test_a10_missing_networks_do_not_name_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "PHOSPHENE_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    inside = tmp_path / "somebody" / "weights"
    for sentence in (why_missing("alexnet", None), why_missing("alexnet", inside)):
        assert "somebody" not in sentence
        assert str(Path("~", ".cache", "torch", "hub", "checkpoints")) in sentence
    assert "put it into ~/weights" in why_missing("alexnet", inside)
    assert "/elsewhere/weights" in why_missing("alexnet", Path("/elsewhere/weights"))
