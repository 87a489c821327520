"""The files of LAION-fMRI, one function per kind of file: they read, check and name what is
wrong.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from phosphene import disk
from phosphene.data import opening
from phosphene.data.grids import check_grid
from phosphene.data.opening import NO_PICTURE, load_volume, open_hdf5, open_image, volumes
from phosphene.data.trials import same_text
from phosphene.errors import PhospheneError
from phosphene.reading import read_json

GREY = (128, 128, 128, 255)  # the screen behind transparent pictures
NAMES = ("image_name", "label")  # columns with names of pictures
SOURCE = "github.com/ViCCo-Group/LAION-fMRI"


def find_split(root: Path, pool: str, name: str) -> Path:
    """Return the list of a split: beside the data, or in the data set's own package, which is not
    imported.
    """
    folders = [root / "splits"]
    package = importlib.util.find_spec("laion_fmri")
    if package and package.submodule_search_locations:
        folders.append(Path(package.submodule_search_locations[0]) / "splits" / "data")
    for folder in folders:
        if disk.exists(path := folder / pool / f"{name}.json"):
            return path
    raise PhospheneError(
        f"{folders[0] / pool / name}.json: no such file (nor in a package laion_fmri); copy the "
        "folder "
        f"laion_fmri/splits/data of {SOURCE} to {folders[0]}, or choose a split that is there"
    )


def read_split(path: Path) -> tuple[set[str], set[str]]:
    """Read the names of training and test pictures."""
    content = read_json(path)
    try:
        variant = next(one for one in content["variants"] if one["variant_id"] == 0)
        train = {same_text(name) for name in variant["train_ids"]}
        test = {same_text(name) for name in variant["test_ids"]}
    except (KeyError, TypeError, StopIteration) as error:
        raise PhospheneError(
            f"{path}: could not be read as a split ({error!r}); copy it again"
        ) from error
    if train & test:
        raise PhospheneError(
            f"{path}: {min(train & test)!r} is a training and a test picture; copy it again"
        )
    return train, test


def read_table(path: Path, columns: dict[str, Any], sep: str = ",") -> pd.DataFrame:
    """Read some columns of a table; every one of them must be there and of its type."""
    try:
        table = opening.read_table(
            path, sep, usecols=list(columns), dtype=columns, keep_default_na=False
        )
    except PhospheneError:
        raise
    except FileNotFoundError as error:
        raise PhospheneError(
            f"{path}: no such file; download it from the bucket s3://laion-fmri"
        ) from error
    except (OSError, ValueError) as error:
        raise PhospheneError(
            f"{path}: could not be read as a table with {', '.join(columns)} ({error})"
        ) from error
    for name in table.columns.intersection(NAMES):
        table[name] = table[name].map(same_text)
    return table


def read_names(path: Path) -> tuple[str, ...]:
    """Read the file name of every picture, in the order of the table of stimuli."""
    names = read_table(path, {"image_name": str})["image_name"]
    if names.duplicated().any():
        raise PhospheneError(
            f"{path}: {names[names.duplicated()].iloc[0]!r} has two rows; download it again"
        )
    return tuple(names)


def read_captions(path: Path) -> dict[str, list[str]]:
    """Read what people wrote about each picture, best first, by its name."""
    table = read_table(
        path, {"image_name": str, "caption_idx": np.int64, "source": str, "caption": str}
    )
    table = table[table["source"] == "human"].sort_values("caption_idx", kind="stable")
    return {
        str(name): [text.strip() for text in texts]
        for name, texts in table.groupby("image_name")["caption"]
    }


def read_nouns(path: Path) -> dict[str, list[str]]:
    """Read the nouns that a detector localised in each picture, by its name."""
    table = read_table(path, {"image_name": str, "noun": str, "localized": np.int64})
    localised = table[table["localized"] == 1].drop_duplicates()
    return {str(name): list(nouns) for name, nouns in localised.groupby("image_name")["noun"]}


def find_masks(folder: Path, subject: str) -> dict[str, dict[str, Path]]:
    """Find the mask of every region of a subject, by folder: face, place, retinotopy, ..."""
    masks: dict[str, dict[str, Path]] = {}
    start = f"{subject}_space-T1w_res-1pt8_label-"
    end = "_mask.nii.gz"
    for path in disk.list_files(folder, f"*/{start}*{end}"):
        # the bucket writes FFA-1 in places where the data set's own package, and this one, say
        # FFA1
        name = path.name.removeprefix(start).removesuffix(end).replace("-", "")
        masks.setdefault(path.parent.name, {})[name] = path
    return masks


def read_betas(
    path: Path,
    shape: tuple[int, ...],
    index: NDArray[np.int64],
    keep: NDArray[np.bool_],
    like: Any,
) -> NDArray[np.float32]:
    """Decompress one volume after the other and take the voxels `index` (n_voxels, 3) of the trials
    to `keep`; the grid must be that of the volume `like`.
    """
    image = load_volume(path)
    if image.shape != shape:
        raise PhospheneError(
            f"{path}: its shape is {image.shape}; expected {shape}, the grid of the R² map and "
            "one volume per row of "
            "the table of trials; download them again"
        )
    check_grid(path, image, like)
    flat = np.ravel_multi_index(tuple(index.T), shape[:3], order="F")  # NIfTI: X fastest
    values = np.empty((int(keep.sum()), len(index)), np.float32)
    row = 0
    for kept, volume in zip(keep, volumes(path, shape), strict=True):
        if kept:
            values[row] = volume[flat] * image.dataobj.slope + image.dataobj.inter
            row += 1
    return values


def read_pictures(path: Path, names: Sequence[str], ids: Sequence[int]) -> NDArray[np.uint8]:
    """Read some of the pictures whose `names` the table of stimuli lists, (n, height, width, 3)."""
    if not disk.exists(path):
        raise PhospheneError(
            f"{path}: no such file; sign the data use agreement (laion-fmri request-access) and "
            "download it "
            "(laion-fmri download-stimuli)"
        )
    try:
        with open_hdf5(path, "images") as images:
            if len(images) != len(names):
                raise PhospheneError(
                    f"{path}: {len(images)} pictures; task-images_metadata.csv lists "
                    f"{len(names)}; download both again"
                )
            pictures = [_decoded(path, names[image], images[int(image)]) for image in ids]
    except (OSError, KeyError, TypeError) as error:
        raise PhospheneError(f"{path}: could not be read ({error}); download it again") from error
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise PhospheneError(
            f"{path}: pictures of the shapes {sorted(sizes)}; expected one; download it again"
        )
    return np.stack(pictures) if pictures else np.empty((0, 0, 0, 3), np.uint8)


def _decoded(path: Path, name: str, content: Any) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG; what is transparent shows the grey of the screen."""
    try:
        with open_image(io.BytesIO(bytes(content))) as picture:
            shown = picture.convert("RGB" if picture.mode == "RGB" else "RGBA")
    except NO_PICTURE as error:
        raise PhospheneError(
            f"{path}: {name!r} could not be read as a picture ({error}); download it again"
        ) from error
    if shown.mode == "RGBA":
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, GREY), shown).convert("RGB")
    return np.asarray(shown)


def read_trials(path: Path, session: int) -> pd.DataFrame:
    """Read the trials of one session: session, run, label."""
    columns = {"session": str, "run": np.int64, "beta_index": np.int64, "label": str}
    table = read_table(path, columns, sep="\t")
    if not (table["beta_index"] == np.arange(len(table))).all():
        raise PhospheneError(
            f"{path}: beta_index does not count 0, 1, ... with the rows; download it again"
        )
    if not (table["session"] == f"ses-{session:02d}").all():
        raise PhospheneError(
            f"{path}: it is about session {table['session'].unique()}; expected ses-{session:02d}"
        )
    return table[["run", "label"]].assign(session=session)[["session", "run", "label"]]
