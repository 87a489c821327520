"""Put what was seen and what was reconstructed side by side in one picture, as in the README.

python examples/contact_sheet.py phosphene-demo/demo.toml sheet.png --rows 2 --columns 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import phosphene as ph
from phosphene.steps.reconstruct import Reconstruct, pictures
from phosphene.steps.subject import dataset, items


def panels(study: ph.Study, subject: str) -> tuple[list[str], np.ndarray, list[str]]:
    """Column titles, pictures (n_items, n_columns, side, side, 3) and one caption per item."""
    data = dataset(study, subject)
    wanted = items(study, data)
    images = wanted["image"].tolist()
    shown = []
    titles = []
    if data.photographs:
        shown.append(data.images(images))
        titles.append("seen")
    for mode in study.reconstruct.modes:
        artefact = Reconstruct(study, subject, mode).artefact
        shown.append(pictures(artefact, range(len(wanted)), samples=1)[:, 0])
        titles.append(mode)
    return titles, np.stack(shown, axis=1), [names[0] for names in data.categories(images)]


def draw(
    titles: list[str], pictures: np.ndarray, captions: list[str], rows: int, columns: int
) -> Figure:
    """Lay out rows x columns items, each a strip of pictures."""
    n_items = rows * columns
    n_strip = len(titles)
    figure = Figure(figsize=(1.05 * columns * n_strip + 0.2 * columns, 1.22 * rows + 0.15))
    grid = figure.add_gridspec(
        1, columns, wspace=0.06, left=0.005, right=0.995, top=0.93, bottom=0.005
    )
    for column in range(columns):
        inner = grid[column].subgridspec(rows, n_strip, wspace=0.03, hspace=0.2)
        for row in range(rows):
            item = row * columns + column
            for k, title in enumerate(titles):
                axes = figure.add_subplot(inner[row, k])
                axes.imshow(pictures[item, k], interpolation="bicubic")
                axes.set_axis_off()
                if n_strip == 1 or row == 0:
                    axes.set_title(captions[item] if n_strip == 1 else title, fontsize=10, pad=3)
    assert n_items <= len(pictures)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    study = ph.Study.load(arguments.study)
    for change in arguments.set:
        key, _, value = change.partition("=")
        study = study.replace(key, value)
    titles, pictures, captions = panels(study, study.data.subjects[0])
    figure = draw(titles, pictures, captions, arguments.rows, arguments.columns)
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
