"""Anyone's pictures: folders of PNG or JPEG files, or a tensor in a ``.pt`` file, opened one
picture at a time.

What would change a score without anybody noticing is refused with a sentence that names the
pictures: files that cannot be read, names that do not pair up, 16 bits per channel, values out of
range. What has one sensible reading (a grey or transparent picture) is converted, and said in
:attr:`PictureSet.notes`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from phosphene import disk
from phosphene.data.opening import NO_PICTURE, open_image
from phosphene.data.pictures import bits, conversion_notes, conversions
from phosphene.data.trials import same_text
from phosphene.errors import PhospheneError
from phosphene.metrics.tensors import dark_notes, first, load

if TYPE_CHECKING:
    from phosphene.models.preparing import Pictures

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
OTHER_PICTURES = (".bmp", ".gif", ".heic", ".jp2", ".npy", ".npz", ".tif", ".tiff", ".webp")
SAMPLE = re.compile(r"(.+)_(\d+)")


@dataclass(frozen=True)
class PictureSet:
    """Pictures under their names.

    Attributes
    ----------
    source : str
        Where they were read, for messages.
    names : list of str, (n,)
        Names of the pictures: files without their endings, or the places 0, 1, ... in a tensor.
    samples : list of sequences of ndarray, (n_samples,)
        For every sample, n pictures (h, w, 3), uint8 or float32 from 0 to 1, read when they are
        asked for.
    ordered : bool
        Whether there are no names, only an order.
    notes : list of str
        What was converted or left out, one sentence each.
    """

    source: str
    names: list[str]
    samples: list[Pictures]
    ordered: bool = False
    notes: list[str] = field(default_factory=list)
    # of a folder without sub-folders: all of them
    files: dict[str, Path] = field(default_factory=dict, repr=False)

    def flat(self) -> PictureSet:
        """The same files without reading the numbers at the ends of their names as samples."""
        if not self.files:
            return self
        return PictureSet(
            self.source, list(self.files), [Files(list(self.files.values()))], False, self.notes
        )


class Files(Sequence[NDArray[np.uint8]]):
    """Picture files as uint8 arrays (height, width, 3); one is open at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return Files(self.paths[index]) if isinstance(index, slice) else opened(self.paths[index])


class Picked(Sequence[NDArray[Any]]):
    """Some pictures of a sequence, in another order."""

    def __init__(self, pictures: Pictures, order: Sequence[int]) -> None:
        self.pictures = pictures
        self.order = list(order)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> Any:
        return (
            Picked(self.pictures, self.order[index])
            if isinstance(index, slice)
            else self.pictures[self.order[index]]
        )


def opened(path: Path) -> NDArray[np.uint8]:
    """Read a picture as uint8 (height, width, 3), turned as its EXIF entry says; transparency is
    laid on white.
    """
    try:
        with open_image(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.array(image.convert("RGB"))
    except (FileNotFoundError, PhospheneError):
        raise
    except NO_PICTURE as error:
        raise PhospheneError(
            f"{path}: cannot be read as a picture ({error}); write it again or remove it"
        ) from None


def read(source: Path | str | NDArray[np.uint8]) -> PictureSet:
    """Open pictures without loading them.

    Parameters
    ----------
    source : path or ndarray
        A folder of PNG or JPEG files, in the natural order of their names. Several samples of a
        picture are ``name_0.png``, ``name_1.png``, ... or files of the same name in one sub-folder
        per sample. Or a ``.pt`` file of one tensor (n, 3, h, w) or (n, n_samples, 3, h, w), uint8
        or float from 0 to 1. Or an array of uint8 (n, h, w, 3) or (n, n_samples, h, w, 3).

    Returns
    -------
    PictureSet

    Raises
    ------
    PhospheneError
        In one sentence: what cannot be read or is not meant to be a picture of 8 bits, by name.
    """
    if isinstance(source, np.ndarray):
        return _read_array(source)
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if not disk.exists(path):
        raise PhospheneError(
            f"{path}: no such folder or file; expected a folder of pictures or a .pt file"
        )
    if path.suffix not in (".pt", ".pth"):
        raise PhospheneError(
            f"{path}: found a single file; expected a folder of PNG or JPEG files, or a .pt file"
        )
    samples = load(path)
    names = [str(k) for k in range(len(samples[0]))]
    return PictureSet(
        str(path), names, list(samples), ordered=True, notes=dark_notes(path, samples)
    )


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts names as people do: 2 before 10."""
    return [(0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"(\d+)", name) if t]


# Folders


def _read_folder(folder: Path) -> PictureSet:
    here, notes = _pictures_in(folder)
    inner = [
        path for path in folder.iterdir() if path.is_dir() and not disk.is_foreign(Path(path.name))
    ]
    parts = {path.name: found for path in inner if (found := _pictures_in(path))[0]}
    if here and parts:
        raise PhospheneError(
            f"{folder}: found pictures and sub-folders with pictures "
            f"({first(sorted(parts, key=natural))}); "
            "expected one or the other, move one of them away"
        )
    if not here and not parts:
        raise PhospheneError(
            f"{folder}: holds no PNG or JPEG file; expected one per picture{_hint(notes)}"
        )
    if here:
        notes += _looked_at(folder, list(here.values()))
        names, samples = _grouped(here)
        return PictureSet(str(folder), names, samples, False, notes, here)
    names = sorted({name for found, _ in parts.values() for name in found}, key=natural)
    ordered = [parts[name] for name in sorted(parts, key=natural)]
    lacking = [
        f"{part}/{n}"
        for part in sorted(parts, key=natural)
        for n in names
        if n not in parts[part][0]
    ]
    if lacking:
        raise PhospheneError(
            f"{folder}: its sub-folders are samples, but {len(lacking)} of their pictures are "
            "missing "
            f"({first(lacking)}); every sub-folder needs the same names"
        )
    paths = [[found[name] for name in names] for found, _ in ordered]
    notes += [note for _, said in ordered for note in said]
    notes += _looked_at(folder, [path for sample in paths for path in sample])
    return PictureSet(str(folder), names, [Files(sample) for sample in paths], False, notes)


def _hint(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def _pictures_in(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Picture files by their names without endings, in natural order; and what else lies there."""
    found: dict[str, list[Path]] = {}
    files = disk.list_files(folder)
    for path in sorted(files, key=lambda path: natural(path.name)):
        if path.suffix.lower() in SUFFIXES:
            disk.check_file(path)
            found.setdefault(same_text(path.stem), []).append(path)
    double = [path.name for paths in found.values() if len(paths) > 1 for path in paths]
    if double:
        raise PhospheneError(
            f"{folder}: {len(double)} files share a name up to their ending ({first(double)}); "
            "keep one of each"
        )
    other = sorted((p.name for p in files if p.suffix.lower() not in SUFFIXES), key=natural)
    foreign = [name for name in other if Path(name).suffix.lower() in OTHER_PICTURES]
    if found and foreign:
        raise PhospheneError(
            f"{folder}: {len(foreign)} files are pictures of a kind that is not read "
            f"({first(foreign)}); "
            "expected PNG or JPEG, convert or remove them"
        )
    notes = (
        [
            f"{folder}: left out {len(other)} of {len(files)} files, which are no PNG or JPEG "
            f"({first(other)})"
        ]
        if other
        else []
    )
    return {name: found[name][0] for name in sorted(found, key=natural)}, notes


def _grouped(files: dict[str, Path]) -> tuple[list[str], list[Pictures]]:
    """``name_0``, ``name_1``, ... as samples of `name`, where there are several names and all have
    the same ones.
    """
    groups: dict[str, dict[int, Path]] = {}
    for name, path in files.items():
        if not (found := SAMPLE.fullmatch(name)):
            break
        groups.setdefault(found[1], {})[int(found[2])] = path
    else:
        numbers = {tuple(sorted(group)) for group in groups.values()}
        if len(groups) > 1 and len(numbers) == 1:
            samples = [Files([group[k] for group in groups.values()]) for k in numbers.pop()]
            return list(groups), list(samples)
    return list(files), [Files(list(files.values()))]


def _looked_at(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Open every file far enough to know that it is whole; names what is not, and says what will be
    converted.
    """
    broken: list[str] = []
    deep: list[str] = []
    huge: list[str] = []
    names = [path.relative_to(folder).as_posix() for path in paths]
    converted: list[list[str]] = []
    for path, name in zip(paths, names, strict=True):
        converted.append([])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                (deep if _verified_bits(path) > 8 else []).append(name)
                converted[-1] = conversions(path)
        except PhospheneError:
            raise
        except Image.DecompressionBombError:
            huge.append(name)
        except NO_PICTURE:
            broken.append(name)
    limit = 2 * int(Image.MAX_IMAGE_PIXELS or 0)
    for wrong, what, todo in (
        (broken, "cannot be read as a picture", "write them again or remove them"),
        (huge, f"have more than {limit:,} pixels", "make them smaller"),
        (
            deep,
            "have more than 8 bits per channel",
            "convert them to 8 bits, so that it is known how they were scaled",
        ),
    ):
        if wrong:
            raise PhospheneError(
                f"{folder}: {len(wrong)} of {len(paths)} files {what} ({first(wrong)}); {todo}"
            )
    return [f"{folder}: {note}" for note in conversion_notes(names, converted)]


def _verified_bits(path: Path) -> int:
    """Bits per channel of a picture that is whole; errors are Pillow's."""
    with open_image(path) as image:
        depth = bits(path, image)
        if image.format in ("JPEG", "MPO"):
            # the whole file at an eighth of its size: quick, and finds a cut end
            image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
            image.load()
        else:
            image.verify()  # the checksum of every block
        return depth


def _read_array(array: NDArray[Any]) -> PictureSet:
    if (
        array.ndim not in (4, 5)
        or array.shape[-1] != 3
        or array.dtype != np.uint8
        or 0 in array.shape
    ):
        raise PhospheneError(
            f"pictures: found an array of shape {array.shape} and type {array.dtype}, expected "
            "uint8 "
            "(n, height, width, 3) or (n, n_samples, height, width, 3)"
        )
    samples: list[Any] = (
        [array] if array.ndim == 4 else [array[:, k] for k in range(array.shape[1])]
    )
    return PictureSet("array", [str(k) for k in range(len(array))], samples, ordered=True)
