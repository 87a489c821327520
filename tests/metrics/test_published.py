"""Published rows are those of the table that was read from the sources, and stand only beside their
own preset.
"""

import json
import re

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from phosphene.cli import score
from phosphene.errors import PhospheneError
from phosphene.metrics import published
from phosphene.metrics.presets import PRESETS
from support.environment import SHARED

TABLE = SHARED / "evaluation.md"


def made(preset: str, skip: tuple[str, ...] = (), **more) -> pd.DataFrame:
    """Scores of a preset, all 0.5, under its own rule and as an oracle (0.9)."""
    rows = [
        {
            "preset": preset,
            "metric": m.name,
            "kind": m.kind,
            "direction": m.direction,
            "selection": selection,
            "value": value,
            "n": 40,
            "samples": 3,
            **more,
        }
        for m in PRESETS[preset].metrics
        if m.name not in skip
        for selection, value in ((PRESETS[preset].selection, 0.5), ("oracle", 0.9))
    ]
    return pd.DataFrame(rows)


def tabled() -> dict[str, tuple[dict[str, float], str]]:
    """Values and source of every method in the notes."""
    if not TABLE.exists():
        pytest.skip(
            f"{TABLE.name} is not beside the repository: nothing to compare published.toml with"
        )
    lines = TABLE.read_text(encoding="utf-8").split("## Sourced numbers")[1].splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    heads = [head.rstrip("↓") for head in cells[0][1:-1]]
    found = {}
    for name, *values, source in cells[2:]:
        known = {head: float(v) for head, v in zip(heads, values, strict=True) if v != "–"}
        found[name] = ({h: v / 100 if v > 2 else v for h, v in known.items()}, source)
    return found


NAMES = {
    "Takagi 2023, CVPR": "Takagi & Nishimoto",
    "Takagi + decoded text, re-run": "Takagi & Nishimoto + decoded text, re-run",
    "Brain-IT (ICLR 2026)": "Brain-IT",
}


def test_rows_are_those_that_were_read():
    rows = published.rows()
    expected = tabled()
    rows = rows[rows["preset"] != published.HUMAN]
    assert {NAMES.get(name, name) for name in expected} == set(rows["method"])
    assert len(rows) == sum(len(values) for values, _ in expected.values())
    for name, (values, source) in expected.items():
        mine = rows[rows["method"] == NAMES.get(name, name)]
        assert mine.set_index("metric")["value"].to_dict() == pytest.approx(values, abs=1e-9)
        assert set(mine["mark"]) == {source[-1]}
        first = mine["source"].iloc[0]
        assert ("table 1" in first) == ("table 1" in source) and (
            "Brain-Diffuser" in first
        ) == source.startswith("BD")


def test_human_rows_are_those_that_were_read():
    tabled()
    text = re.search(
        r"Human two-way identification: (.*?\))", TABLE.read_text(encoding="utf-8"), re.DOTALL
    )
    values = [float(v) / 100 for v in re.findall(r"([\d.]+) %", text[1])]
    human = published.rows()
    human = human[human["preset"] == published.HUMAN]
    assert human["value"].tolist() == pytest.approx(values) and len(values) == 3
    assert set(human["mark"]) == {"V"} and human["source"].str.contains("A.15.1").all()


def test_every_row_has_a_source_a_mark_and_a_preset():
    rows = published.rows()
    assert rows["source"].str.len().min() > 10 and set(rows["mark"]) <= set(published.MARKS)
    assert set(rows["preset"]) <= {*PRESETS, published.HUMAN}
    assert (
        not rows.duplicated(["preset", "method", "metric"]).any()
        and rows["value"].between(0, 1).all()
    )


def test_presets_are_never_mixed():
    table = published.beside(pd.concat([made(name) for name in PRESETS]))
    rows = published.rows()
    theirs = table[~table["yours"].astype(bool)]
    for preset in PRESETS:
        block = theirs[theirs["preset"] == preset]
        known = rows[rows["preset"] == preset]
        assert sorted(block["method"]) == sorted(known["method"]) and sorted(
            block["value"]
        ) == sorted(known["value"])
    assert set(theirs["preset"]) == {"takagi2023", "mindeye"}
    assert published.HUMAN not in set(table["preset"])
    only = published.beside(made("braindiffuser"))
    assert only["yours"].all() and published.remarks(only, "braindiffuser") == []


def test_yours_are_under_the_presets_own_rule_and_absent_ones_are_blank():
    table = published.beside(made("mindeye", skip=("Inc", "SwAV")))
    assert (table.loc[table["yours"].astype(bool), "value"] == 0.5).all()
    wide = published.wide(table, "mindeye")
    assert list(wide.columns) == [
        "PixCorr",
        "SSIM",
        "Alex(2)",
        "Alex(5)",
        "Inc",
        "CLIP",
        "Eff",
        "SwAV",
    ]
    assert wide.index[0] == "yours" and wide.loc["yours"].tolist() == [
        "0.500",
        "0.500",
        "50.0",
        "50.0",
        "",
        "50.0",
        "0.500",
        "",
    ]
    assert wide.loc["MindEye2", "Alex(2)"] == "96.1" and wide.loc["Brain-IT", "Eff"] == "0.564"
    takagi = published.wide(published.beside(made("takagi2023")), "takagi2023")
    assert takagi.loc["Takagi & Nishimoto", "Inception"] == "76.0"
    assert (
        takagi.loc[
            "Takagi & Nishimoto", [c for c in takagi.columns if c.startswith(("AlexNet", "CLIP "))]
        ]
        == ""
    ).all()
    assert takagi.loc["yours", "CLIP"] == ""  # the preset has no measure of that name


def test_both_directions_have_columns_of_their_own():
    table = published.beside(made("pixel"))
    wide = published.wide(table, "pixel")
    assert list(wide.columns)[:2] == ["PixCorr", "SSIM"] and len(wide.columns) == 8
    assert {"pixels (takagi2023)", "pixels (braindiffuser)"} < set(wide.columns)


def test_studies_name_their_rows_and_average_subjects():
    parts = [
        made("mindeye", subject=s, mode="zc", source=source)
        for s in ("subj01", "subj02")
        for source in ("brain", "true")
    ]
    scores = pd.concat(parts, ignore_index=True)
    scores.loc[scores["subject"] == "subj02", "value"] += 0.1
    wide = published.wide(published.beside(scores), "mindeye")
    assert list(wide.index[:6]) == [
        "yours, subj01, zc",
        "yours, subj01, zc, true",
        "yours, subj02, zc",
        "yours, subj02, zc, true",
        "yours, mean of subjects, zc",
        "yours, mean of subjects, zc, true",
    ]
    assert wide.loc["yours, mean of subjects, zc", "Alex(2)"] == "55.0"
    alone = published.wide(published.beside(scores[scores["subject"] == "subj01"]), "mindeye")
    assert not any("mean of subjects" in name for name in alone.index)


def test_remarks_name_source_mark_subjects_and_pictures():
    said = " ".join(published.remarks(published.beside(made("mindeye")), "mindeye"))
    for words in (
        "MindEye2 (arXiv 2403.11207), table 1 [V]",
        "subj01, 02, 05, 07",
        "982 or 1000",
        "best of 16",
        "4:1",
    ):
        assert words in said
    assert "[R]" in " ".join(published.remarks(published.beside(made("takagi2023")), "takagi2023"))


def compared(*words):
    app = typer.Typer()
    app.command()(score.compare)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_compare_reads_csv_and_json(tmp_path):
    scores = made("mindeye")
    scores.to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / "s.json").write_text(
        json.dumps({"scores": json.loads(scores.to_json(orient="records"))})
    )
    outputs = [compared(tmp_path / name) for name in ("s.csv", "s.json")]
    assert outputs[0].exit_code == 0, outputs[0].output
    assert outputs[0].output == outputs[1].output
    for words in (
        "yours",
        "MindEye2",
        "Brain-IT",
        "97.82 % [V]",
        "[R] recalled",
        "rule single of 3 samples",
        "40 pictures",
    ):
        assert words in outputs[0].output, words
    assert "76.0" not in outputs[0].output  # Takagi's own numbers are another preset's
    assert max(map(len, outputs[0].output.splitlines())) <= 100
    rows = json.loads(compared(tmp_path / "s.csv", "--json").output)
    assert {row["preset"] for row in rows} == {"mindeye"}


def test_what_is_no_scores_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    strange = made("mindeye").assign(preset="mine")
    strange.to_csv(tmp_path / "c.csv", index=False)
    for name, words in (
        ("a.json", "cannot be read as scores"),
        ("b.csv", "has no column preset"),
        ("c.csv", "found preset 'mine'"),
    ):
        with pytest.raises(PhospheneError, match=words):
            published.read_scores(tmp_path / name)
        done = compared(tmp_path / name)
        assert done.exit_code == 1 and done.output.startswith("Error: ")
    assert "no such file" in compared(tmp_path / "d.csv").output
