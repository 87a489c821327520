"""Answers that were collected elsewhere: CSV files in, a table as the export gives it out."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from phosphene.data.trials import same_text
from phosphene.errors import PhospheneError
from phosphene.reading import read_text

COLUMNS = (
    "rater",
    "slot",
    "position",
    "kind",
    "method",
    "subject",
    "item",
    "image",
    "distractor_item",
    "distractor_image",
    "repeat_of",
    "correct",
    "choice",
    "hit",
    "milliseconds",
    "elapsed",
    "server_at",
)
NEEDED = ("rater", "method", "image")
KINDS = ("trial", "catch", "repeat")
SIDES = ("left", "right")
TRUE = ("true", "1", "1.0", "yes")
FALSE = ("false", "0", "0.0", "no")
SHOWN = 5


def read_csv(
    path: Path | str | Sequence[Path | str], mapping: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read answers from the CSV of another platform, or from the one of the admin page.

    Parameters
    ----------
    path : path or sequence of paths
        UTF-8, with a line of names; comma, semicolon or tab, found from that line. Several files
        are put together; a rater must be in one of them only.
    mapping : mapping of str to str, optional
        Our name -> the file's, for columns with other names. Needed are ``rater, method, image``
        and either ``hit`` (true, false, 1, 0, yes, no) or ``choice`` and ``correct`` (left, right).
        Taken if there: ``position, kind`` (trial, catch, repeat; else all are trials), ``subject,
        item, distractor_item, distractor_image, repeat_of, milliseconds, elapsed, slot,
        server_at``. Other
        columns are ignored.

    Returns
    -------
    DataFrame
        Columns of the export, in the order of raters and positions. Without positions answers are
        numbered in the order of lines; without ``repeat_of`` a repeat belongs to the trial with the
        same rater, method, subject and image (and distractor, where that is given).

    Raises
    ------
    PhospheneError
        When a file cannot be read, a column is missing, a value is unknown (with its line), an
        answer is there twice, or a rater is in several files.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if not paths:
        raise PhospheneError("import: no file was given; expected one or more CSV files.")
    tables = []
    owner = dict[str, Path]()
    for one in paths:
        table = _read(one, dict(mapping or {}))
        for rater in table["rater"].unique():
            if owner.setdefault(rater, one) != one or paths.count(one) > 1:
                raise PhospheneError(
                    f"{one}: rater {rater!r} is also in {owner[rater]}; put the answers of one "
                    "person into one file, "
                    "or give two people two names."
                )
        tables.append(table)
    found = pd.concat(tables, ignore_index=True)
    if found["slot"].isna().any():
        found["slot"] = pd.factorize(found["rater"])[0]
    found = found.astype({"slot": int, "position": int, "repeat_of": int})
    return found.sort_values(["slot", "position"], kind="stable")[list(COLUMNS)].reset_index(
        drop=True
    )


def _read(path: Path, mapping: dict[str, str]) -> pd.DataFrame:
    """One file, checked; `slot` may be unknown."""
    raw = _renamed(path, _text(path), mapping)
    _filled(path, raw, NEEDED)
    table = pd.DataFrame({name: raw[name] for name in NEEDED})
    table["kind"] = _among(path, raw, "kind", KINDS) if "kind" in raw else "trial"
    table["subject"] = raw["subject"] if "subject" in raw else ""
    table["hit"], table["choice"], table["correct"] = _hits(path, raw)
    for name in ("slot", "position", "item", "distractor_item", "repeat_of"):
        table[name] = _numbers(path, raw, name, whole=True) if name in raw else np.nan
    for name in ("milliseconds", "elapsed"):
        table[name] = _numbers(path, raw, name) if name in raw else np.nan
    table["distractor_image"] = raw["distractor_image"] if "distractor_image" in raw else ""
    table["server_at"] = (
        pd.to_datetime(raw["server_at"], utc=True, errors="coerce")
        if "server_at" in raw
        else pd.NaT
    )
    if table["position"].isna().all():
        table["position"] = table.groupby("rater").cumcount()
    _filled(path, table.astype({"position": object}), ("position",))
    _once(path, table)
    return table.assign(repeat_of=_originals(path, table, given="repeat_of" in raw))


def _text(path: Path) -> pd.DataFrame:
    """All cells as text; the index is the line of the file, as an editor counts."""
    try:
        file = io.StringIO(read_text(path, kind="a CSV file"))
        head = file.readline()
        comma = max(",;\t", key=head.count)
        file.seek(0)
        reader = csv.reader(file, delimiter=comma, strict=True)
        numbered = [(reader.line_num, line) for line in reader]
    except PhospheneError:
        raise
    except (OSError, csv.Error) as error:
        raise PhospheneError(
            f"{path}: cannot be read as CSV ({error}); expected UTF-8 text with a line of names."
        ) from error
    lines = {number: line for number, line in numbered if any(cell.strip() for cell in line)}
    if len(lines) < 2:
        raise PhospheneError(
            f"{path}: holds no answers; expected a line of names and one line per answer."
        )
    names = [_normal(name) for name in lines.pop(min(lines))]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise PhospheneError(
            f"{path}: column {', '.join(twice)} is there twice; give columns different names."
        )
    for number, line in lines.items():
        if len(line) != len(names):
            raise PhospheneError(
                f"{path}: line {number} has {len(line)} cells, the line of names has "
                f"{len(names)}; mend or remove it."
            )
    cells = [[_normal(cell) for cell in line] for line in lines.values()]
    return pd.DataFrame(cells, columns=names, index=list(lines), dtype=object)


def _normal(text: str) -> str:
    """A cell without blanks around it, in the composed form: `é` has two spellings in Unicode."""
    return same_text(text.strip())


def _renamed(path: Path, raw: pd.DataFrame, mapping: dict[str, str]) -> pd.DataFrame:
    unknown = [name for name in mapping if name not in COLUMNS]
    if unknown:
        raise PhospheneError(
            f"import: {', '.join(unknown)} is no column of answers; expected {', '.join(COLUMNS)}."
        )
    mapping = {ours: _normal(theirs) for ours, theirs in mapping.items()}
    for ours, theirs in mapping.items():
        if theirs not in raw:
            near = difflib.get_close_matches(theirs, list(raw), 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise PhospheneError(
                f"{path}: has no column {theirs!r} (for {ours}), found {', '.join(raw)}{hint}"
            )
    kept = raw.drop(
        columns=[name for name in mapping if name in raw and name not in mapping.values()]
    )
    kept = kept[[name for name in kept if name in mapping.values() or name in COLUMNS]]
    found = pd.DataFrame({ours: raw[theirs] for ours, theirs in mapping.items()})
    for name in kept:
        if name not in mapping.values():
            found[name] = kept[name]
    missing = [name for name in NEEDED if name not in found]
    if "hit" not in found and not {"choice", "correct"} <= set(found):
        missing.append("hit (or choice and correct)")
    if missing:
        raise PhospheneError(
            f"{path}: columns {', '.join(missing)} are missing, found {', '.join(raw)}; name them "
            "by a mapping such as "
            f"{missing[0].split()[0]}=NAME-IN-THE-FILE."
        )
    return found


def _filled(path: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        empty = table.index[(table[name].isna()) | (table[name] == "")]
        if len(empty):
            raise PhospheneError(
                f"{path}: {name} is empty on line {_lines(empty)}; fill it in or remove the line."
            )


def _lines(index: pd.Index) -> str:
    more = f" and {len(index) - SHOWN} more" if len(index) > SHOWN else ""
    return ", ".join(map(str, index[:SHOWN])) + more


def _among(path: Path, raw: pd.DataFrame, name: str, allowed: Sequence[str]) -> pd.Series:
    """Values of a column, which must be among those allowed, however they are capitalised."""
    values = raw[name].str.lower()
    wrong = raw.index[~values.isin(allowed)]
    if len(wrong):
        raise PhospheneError(
            f"{path}: {name} is {raw.at[wrong[0], name]!r} on line {_lines(wrong)}; expected "
            f"{', '.join(allowed)}."
        )
    return values


def _numbers(path: Path, raw: pd.DataFrame, name: str, whole: bool = False) -> pd.Series:
    """Numbers of a column, NaN where it is empty."""
    values = pd.to_numeric(raw[name].replace("", np.nan), errors="coerce").astype(float)
    wrong = (values.isna() & (raw[name] != "")) | np.isinf(values)
    wrong |= (values % 1 != 0) & values.notna() if whole else values < 0
    if wrong.any():
        lines = raw.index[wrong]
        kind = "a whole number" if whole else "a number, 0 or more"
        raise PhospheneError(
            f"{path}: {name} is {raw.at[lines[0], name]!r} on line {_lines(lines)}; expected "
            f"{kind}."
        )
    return values


def _hits(path: Path, raw: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Whether each answer was right, the choice and the right one (both "" if only `hit` is
    there).
    """
    sides = {"choice", "correct"} <= set(raw)
    nothing = pd.Series("", raw.index)
    choice, correct = (
        (_among(path, raw, name, SIDES) for name in ("choice", "correct"))
        if sides
        else (nothing, nothing)
    )
    if "hit" not in raw:
        return choice == correct, choice, correct
    hit = _among(path, raw, "hit", TRUE + FALSE).isin(TRUE)
    wrong = raw.index[hit != (choice == correct)] if sides else raw.index[:0]
    if len(wrong):
        raise PhospheneError(
            f"{path}: hit does not agree with choice and correct on line {_lines(wrong)}; give "
            "either, or mend them."
        )
    return hit, choice, correct


def _once(path: Path, table: pd.DataFrame) -> None:
    """Refuse an answer that is there twice."""
    twice = table.index[table.duplicated(["rater", "position"])]
    if len(twice):
        rater, position = table.loc[twice[0], ["rater", "position"]]
        raise PhospheneError(
            f"{path}: rater {rater!r} answered position {int(position)} twice, again on line "
            f"{_lines(twice)}; keep the "
            "first answer."
        )
    trials = table[table["kind"] == "trial"]
    twice = trials.index[
        trials.duplicated(["rater", "method", "subject", "image", "distractor_image"])
    ]
    if len(twice):
        rater, method, image = trials.loc[twice[0], ["rater", "method", "image"]]
        raise PhospheneError(
            f"{path}: rater {rater!r} answered image {image} of method {method} twice, again on "
            f"line {_lines(twice)}; "
            "mark repeats by kind 'repeat', or remove what is there twice."
        )


def _originals(path: Path, table: pd.DataFrame, given: bool) -> pd.Series:
    """Position of the trial that each repeat repeats, -1 for what repeats nothing or nothing that
    is there.
    """
    repeats = table["kind"] == "repeat"
    if given:
        return table["repeat_of"].where(repeats & table["repeat_of"].notna(), -1)
    keys = ["rater", "method", "subject", "image", "distractor_image"]
    first = table[table["kind"] == "trial"].set_index(keys)["position"]
    found = pd.Series(first.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy(), table.index)
    return found.where(repeats & found.notna(), -1)
