"""`phosphene demo` on a device from beginning to end: seconds, and its table beside that of the
README.

The README's table is of a CPU. On a GPU the U-Net is float16, so that a few pictures differ by a
grey level; scores may differ by TOLERANCE points of percent, which is one standard error of a row
over 100 test pictures at chance. `--quick` runs a tiny study, whose table is not compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from phosphene.reporting.tables import headline

README = Path(__file__).parents[1] / "README.md"
TOLERANCE = 3.0
CATEGORY = "category named"
TINY_STUDY = {
    "data.simulate.images_shared": 8,
    "data.simulate.images_own": 24,
    "data.simulate.repeats": 2,
    "data.simulate.sessions": 2,
    "reconstruct.samples": 1,
    "reconstruct.steps": 4,
    "evaluate.bootstrap": 20,
    "evaluate.permutations": 20,
}

Json = dict[str, Any]
Table = dict[str, dict[str, float]]


def readme_table() -> Table:
    """Percentages of the README's table by row and column."""
    lines = README.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| | judge-early"))
    columns = cells(lines[start])[1:]
    table: Table = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *values = cells(line)
        numbers = [float(value.replace("*", "").split()[0]) for value in values]
        table[name.replace("*", "")] = dict(zip(columns, numbers, strict=True))
    return table


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def demo_table(output: Json) -> Table:
    """The same table from the command's JSON."""
    scores = headline(pd.DataFrame(output["scores"]), "scenes")
    names = pd.DataFrame(output["names"]).set_index("condition")["accuracy"]
    table = scores.assign(**{CATEGORY: 100 * names.reindex(scores.index)})
    rows = table.round(1).to_dict(orient="index")
    return {
        str(row): {str(column): float(value) for column, value in values.items()}
        for row, values in rows.items()
    }


def differences(table: Table, expected: Table) -> Table:
    """What each number is above the README's."""
    return {
        row: {column: round(table[row][column] - value, 1) for column, value in values.items()}
        for row, values in expected.items()
    }


def main() -> int:
    """Run, compare, write; 1 when the command fails or its table is another one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny study, to try the script")
    parser.add_argument("--out", type=Path, required=True, help="folder for demo.json")
    args = parser.parse_args()
    changes = []
    if args.quick:
        # workers would spend longer on imports than on so small a study
        changes = [
            "--backend",
            "serial",
        ]
        for key, value in TINY_STUDY.items():
            changes += ["--set", f"{key}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "phosphene.cli",
            "demo",
            folder,
            "--device",
            args.device,
            "--json",
            *changes,
        ]
        started = time.monotonic()
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        seconds = time.monotonic() - started
    if process.returncode:
        return 1
    table = demo_table(json.loads(process.stdout))
    result: Json = {"command_seconds": round(seconds, 1), "table": table}
    if not args.quick:
        result["difference_to_readme"] = differences(table, readme_table())
        result["largest_difference"] = max(
            abs(value) for row in result["difference_to_readme"].values() for value in row.values()
        )
        result["tolerance"] = TOLERANCE
    (args.out / "demo.json").write_text(json.dumps(result, indent=1) + "\n")
    if result.get("largest_difference", 0.0) > TOLERANCE:
        print(
            f"The table differs from the README's by {result['largest_difference']} points, more "
            f"than {TOLERANCE}."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
