"""Figures: those of the encoding models of a study, and brain maps that other programs read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene import disk
from phosphene.data import atlas
from phosphene.data.keys import content_key
from phosphene.encoding.models import Model, Named
from phosphene.features.names import slug
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Part
from phosphene.steps.encode import maps, planned
from phosphene.steps.encode.models import Encode, VoxelStep
from phosphene.steps.subject import data_key, dataset
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.maps import surface


@dataclass(frozen=True, eq=False)
class Figures(VoxelStep):
    """Figures 6 to 9 of the paper from a subject's encoding models, and brain maps as files.

    Per analysis ANALYSIS.png and ANALYSIS.pdf; surface.html, a page with the cortex to turn; per
    model MODEL-r.nii.gz and, on fsaverage, MODEL-r.lh.func.gii and MODEL-r.rh.func.gii. What lies
    on a surface is left out where no transforms of the subject are known.
    """

    stage: ClassVar[str] = "figures"
    sections: ClassVar[tuple[str, ...]] = ("encode",)

    @property
    def name(self) -> str:
        """The subject."""
        return self.subject

    def settings(self) -> dict[str, Any]:
        """What is shown: analyses, and the regions that are drawn."""
        names = ("analyses", "noise", "steps", "layers", "controls", "same_noise", "atlases")
        return {"study": self.study.name, **self.study.settings("encode", *names)}

    def inputs(self) -> Mapping[str, Step | Key]:
        """The fitted models, labels of regions, and the way to the cortical surface."""
        models = {
            f"encode-{model}": Encode(self.study, self.subject, model)
            for _, model in planned(self.study)
        }
        return {**models, **drawing_keys(self.study, self.subject)}

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Draw and write all files."""
        with tempfile.TemporaryDirectory() as folder:
            for path in write(self.study, self.subject, planned(self.study), Path(folder)):
                part.file(path.name, partial(shutil.copyfile, path))


def drawing_keys(study: Study, subject: str) -> dict[str, Key]:
    """The keys of what brain maps are drawn with: labels of regions, the regions that are outlined,
    the grid's place, and the files that lead from the scans to the cortical surface.
    """
    data: Any = dataset(study, subject)
    outlined = atlas.outlined(data)
    keys = {
        "labels": data_key(study, subject, "labels", study.encode.atlases),
        "outlined": Key(content_key("outlined", list(outlined), *outlined.values())),
        "affine": Key(content_key("affine", data.affine)),
    }
    folder = getattr(getattr(data, "layout", None), "transforms", None)
    if folder is not None and (files := disk.list_files(folder, "*.mgz")):
        keys["transforms"] = Key(disk.fingerprint("transforms", folder, files))
    return keys


def tables_of(study: Study, subject: str, models: Sequence[Model]) -> dict[Model, pd.DataFrame]:
    """Read of each model what is drawn: x, y, z, r, q, "unique SPACE", and `region`, that of the
    first atlas.
    """
    from phosphene.encoding.regions import labelled

    found = {}
    for model in dict.fromkeys(models):
        table = maps(study, subject, model)
        unique = [column for column in table if str(column).startswith("unique ")]
        _, regions = labelled(table, study.encode.atlases)[0]
        found[model] = table[["x", "y", "z", "r", "q", *unique]].assign(region=regions)
    return found


def write(study: Study, subject: str, models: Named, folder: Path) -> list[Path]:
    """Write figures (PNG, PDF) of every analysis, a page with the cortex to turn, and every model's
    map of r.

    Parameters
    ----------
    study : Study
    subject : str
    models : sequence of (str, Model)
        Finished models and the analysis each belongs to (:func:`phosphene.steps.encode.planned`).
    folder : Path
        Where they go.

    Returns
    -------
    list of Path
        Per analysis ANALYSIS.png and ANALYSIS.pdf; surface.html; per model MODEL-r.nii.gz and, on
        fsaverage, MODEL-r.lh.func.gii and MODEL-r.rh.func.gii. What lies on a surface is left out
        where no transforms of the subject are known.
    """
    from phosphene import maps as brain_maps
    from phosphene.maps import analyses, surface

    data: Any = dataset(study, subject)
    written: list[Path] = []
    turnable: list[surface.Turned] = []
    for analysis in dict.fromkeys(analysis for analysis, _ in models):
        mine = [model for name, model in models if name == analysis]
        names = analyses.panel_names(analysis, mine)
        tables = tables_of(study, subject, mine)
        drawn = analyses.figure(
            analysis,
            names,
            tables,
            data,
            brain_maps.Look(f"{subject}: {analyses.TITLES[analysis]}"),
        )
        for suffix in ("png", "pdf") if drawn else ():
            path = folder / f"{analysis}.{suffix}"
            assert drawn is not None
            drawn.savefig(path, dpi=200)
            written.append(path)
        turnable += analyses.turned(subject, analysis, names, tables, data)
        for model, table in tables.items():
            written += _write_r(model, table, data, folder)
    if turnable:
        page = folder / "surface.html"
        page.write_text(
            surface.surface_page(
                f"{study.name}, {subject}", turnable, {subject: analyses.outlined(data)}
            ),
            "utf-8",
        )
        written.append(page)
    return list(dict.fromkeys(written))


def _write_r(model: Model, table: pd.DataFrame, data: Any, folder: Path) -> list[Path]:
    from phosphene import maps as brain_maps

    stem = slug(model)
    values = table["r"].to_numpy()
    transforms = brain_maps.transforms_of(data)
    written = [brain_maps.write_volume(values, table, data, folder / f"{stem}-r.nii.gz")]
    if transforms is not None:
        written += brain_maps.write_surface(values, table, data, transforms, folder / f"{stem}-r")
    return written
