"""Section F: what stops a new user."""

from __future__ import annotations

import re
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.errors import PhospheneError
from phosphene.metrics.presets import PRESETS
from phosphene.pipeline.graph import make
from phosphene.reporting.tables import blocks, interval, pairs
from phosphene.steps import evaluate
from phosphene.study import Compute, Study
from support.steps import Text

STUDIES = Path(__file__).parents[2] / "studies"


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    names: dict[str, Any] = {}
    for key, value in table.items():
        names |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return names


def test_f5_the_demo_names_every_setting_and_every_default_that_is_another():
    text = (STUDIES / "demo.toml").read_text()
    settings = flat(tomllib.loads(text))
    defaults = flat(Study().to_dict())
    assert defaults.keys() - settings.keys() == {"data.pool", "data.split"}  # of LAION-fMRI alone
    for name, value in settings.items():
        if value == defaults[name] or name in ("name", "data.root"):
            continue
        key = re.escape(name.rpartition(".")[2])
        (line,) = re.findall(rf"^{key} = .*default: .*$", text, re.MULTILINE)
        default = str(defaults[name]).lower()
        assert re.search(rf"default: {re.escape(default)}\b", line), (name, line)


def scores(values: dict[str, list[float]]) -> pd.DataFrame:
    """A table of scores of the preset scenes; one list of values per mode."""
    metrics = [metric.name for metric in PRESETS["scenes"].metrics]
    rows = [
        {
            "mode": mode,
            "source": "brain",
            "preset": "scenes",
            "metric": metric,
            "direction": PRESETS["scenes"].metrics[0].direction,
            "selection": PRESETS["scenes"].selection,
            "value": value,
            "ci_low": value,
            "ci_high": value,
            "p": 0.001,
            "n": 10,
            "samples": 1,
            "kind": "two-way",
            "better": "higher",
        }
        for mode, own in values.items()
        for metric, value in zip(metrics, own, strict=False)
    ]
    return pd.DataFrame(rows)


def test_f11_modes_that_are_level_both_lead_and_the_mean_has_a_leader():
    block = blocks(scores({"z": [0.9, 0.5], "c": [0.9, 0.7]}))[0]
    leads = {line.name: [cell.best for cell in line.cells if cell] for line in block.lines}
    assert leads == {"z": [True, False, False], "c": [True, True, True]}


def test_f11_an_interval_whose_ends_print_the_same_is_one_number():
    assert interval(1.0, 1.0) == "100.0"
    assert interval(0.98, 1.0) == "98.0–100.0"
    assert interval(-0.2, 0.1, "distance") == "−0.200 to 0.100"


def test_f4_modes_are_compared_on_the_mean_over_measures(monkeypatch):
    modes = ["z", "c", "zc"]
    metrics = ["judge-early", "judge-late"]
    keys = list(product(modes, metrics, range(12)))
    images = pd.DataFrame(keys, columns=["mode", "metric", "item"]).assign(
        subject="subj01",
        preset="scenes",
        direction="takagi2023",
        selection=PRESETS["scenes"].selection,
        source="brain",
        value=np.random.default_rng(0).uniform(size=len(keys)),
    )
    monkeypatch.setattr(evaluate, "all_tables", lambda study, name: images)
    table = evaluate.comparisons(Study().replace("reconstruct.modes", modes))
    means = table[table["metric"] == "mean"].set_index(["a", "b"])
    assert list(means.index) == [("zc", "c"), ("zc", "z"), ("c", "z")]
    by_mode = images.groupby("mode")["value"].mean()
    for (a, b), row in means.iterrows():
        assert row["difference"] == pytest.approx(by_mode[a] - by_mode[b])
        assert row["ci_low"] < row["difference"] < row["ci_high"]
    names, lines = pairs(table, "scenes")
    assert names == ["zc − c", "zc − z", "c − z"] and lines[-1][0] == "mean"


def test_f3_a_wrong_name_of_a_result_is_answered_with_those_that_are_there(tmp_path):
    study = Study.from_dict({}, root=tmp_path)
    (artefact,) = make([Text(study, "a")], Compute(progress=False))
    for read in (artefact.array, artefact.table, artefact.file):
        with pytest.raises(PhospheneError, match=r"foo.*there are 0.txt, 1.txt$"):
            read("foo")
    with pytest.raises(PhospheneError, match="run the study again"):
        Text(study, "b").artefact.array("foo")
