"""The only place where text, JSON, TOML and CSV files of users are read.

What is damaged, nested too deeply or too large ends in one sentence. Scans, pictures and arrays are
opened in :mod:`phosphene.data.opening`.
"""

from __future__ import annotations

import csv
import io
import json
import tomllib
from pathlib import Path
from typing import Any

from phosphene import disk
from phosphene.errors import PhospheneError

LARGEST = 1 << 30  # bytes of a text file; the largest in use are tables of some 20 MB
BLANK = " \t\r\n"
DEEP = "it is nested too deeply"
DIGITS = "it holds a number with too many digits"


def read_text(path: Path, remedy: str = "save it as one", kind: str = "a text file") -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do when it cannot be read.
    kind : str
        What it is called then.

    Raises
    ------
    PhospheneError
        When it is no text in UTF-8, no plain file, or larger than a GiB.
    FileNotFoundError
        When it is not there.
    """
    disk.check_file(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise PhospheneError(
                f"{path}: has {size / 1e9:.1f} GB; expected {kind} of at most "
                f"{LARGEST / 1e9:.1f} GB"
            )
        with path.open(encoding="utf-8-sig") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise PhospheneError(
            f"{path}: could not be read as {kind} in UTF-8 ({error}); {remedy}"
        ) from error


def read_json(path: Path, remedy: str = "copy or download it again") -> Any:
    """Read a JSON file; errors as for :func:`read_text`."""
    text = read_text(path, remedy)
    try:
        return json.loads(text)
    except RecursionError:
        reason = DEEP
    except json.JSONDecodeError as error:
        reason = str(error)
    except ValueError:
        reason = DIGITS
    raise PhospheneError(f"{path}: could not be read as JSON ({reason}); {remedy}")


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML.

    Raises
    ------
    PhospheneError
        When it is nested too deeply, or holds a number of more digits than Python converts; the
        sentence begins with `where`.
    ValueError
        Says which sign is wrong.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise PhospheneError(f"{where}: {DEEP}; write it with fewer brackets") from None
    except ValueError:
        raise PhospheneError(f"{where}: {DIGITS}; write a smaller one") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; errors as for :func:`read_text`."""
    text = read_text(path)
    try:
        return parse_toml(text, str(path))
    except PhospheneError:
        raise
    except ValueError as error:
        raise PhospheneError(f"{path}: not valid TOML: {error}") from None


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the rows of a CSV file as text, each with the number of its line.

    Empty lines are left out, and at the end lines of blanks. Errors as for :func:`read_text`, of a
    file that is not there as well.
    """
    try:
        text = read_text(path, kind="a CSV file")
    except FileNotFoundError as error:
        raise PhospheneError(
            f"{path}: could not be read as a CSV file in UTF-8 ({error}); save it as one"
        ) from error
    reader = csv.reader(io.StringIO(text.rstrip(BLANK)), strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except csv.Error as error:
        check_separator(path, text, ",")
        raise PhospheneError(
            f"{path}: could not be read as a CSV file in UTF-8 ({error}); save it as one"
        ) from error
    check_separator(path, text, ",")
    return [(number, fields) for number, fields in rows if fields]


def check_separator(path: Path, text: str, separator: str) -> None:
    """Refuse a table whose line of names is separated by something else."""
    header = text.lstrip(BLANK).partition("\n")[0]
    for other, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if other != separator and other in header and separator not in header:
            expected = "tabs" if separator == "\t" else "commas"
            raise PhospheneError(
                f"{path}: its columns are separated by {name}; save it with {expected} between them"
            )
