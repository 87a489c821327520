"""What is done to picture files that are not plain RGB with 8 bits, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from phosphene.data.opening import open_file, open_image

ORIENTATION = 0x0112  # EXIF's tag
BITS_PER_SAMPLE = 258  # TIFF's tag
PLAIN_MODES = ("RGB", "RGBA", "RGBX", "RGBa")
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")  # refused by whoever reads pictures
GREY_MODES = ("1", "L", "LA", "La")
PALETTE_MODES = ("P", "PA")
# where Pillow finds EXIF or XMP entries of a PNG file before its pixels
PNG_ENTRIES = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
SHOWN = 5  # names in a note
CLEAR = "have transparency and were laid on white"


def bits(path: Path, image: Image.Image) -> int:
    """Bits per channel, from the file's own header: Pillow opens 16-bit colour as 8-bit without a
    word.
    """
    if image.format == "PNG":
        with open_file(path) as file:
            return file.read(25)[24]
    if image.mode in ("I", "F"):
        return 32
    if image.mode in DEEP_MODES:
        return 16
    tags = getattr(image, "tag_v2", {})
    return max(map(int, tags.get(BITS_PER_SAMPLE, (8,))))


def conversions(path: Path) -> list[str]:
    """What reading a picture as RGB changes, in words that follow "2 of 5 pictures"."""
    with open_image(path) as image:
        words = []
        if image.mode in GREY_MODES:
            words.append("are grey and were read as RGB")
        elif image.mode in PALETTE_MODES:
            words.append("have a palette and were read as RGB")
        elif image.mode not in (*PLAIN_MODES, *DEEP_MODES):
            words.append(f"are {image.mode} and were read as RGB")
        if image.has_transparency_data:
            words.append(CLEAR)
        if getattr(image, "n_frames", 1) > 1:
            words.append("hold several frames, of which the first was read")
        if _is_turned(path, image):
            words.append("were turned as their EXIF entry says")
        return words


def conversion_notes(names: Sequence[str], words: Iterable[Sequence[str]]) -> list[str]:
    """One sentence for each kind of conversion, with the number and names of its pictures.

    Parameters
    ----------
    names : sequence of str
    words : iterable of sequences of str
        What :func:`conversions` gives for each picture.
    """
    by_kind: dict[str, list[str]] = {}
    for name, kinds in zip(names, words, strict=True):
        for kind in kinds:
            by_kind.setdefault(kind, []).append(name)
    return [
        f"{len(pictures)} of {len(names)} pictures {kind} ({', '.join(pictures[:SHOWN])}"
        f"{', ...' if len(pictures) > SHOWN else ''})"
        for kind, pictures in by_kind.items()
    ]


def _is_turned(path: Path, image: Image.Image) -> bool:
    if image.format == "PNG" and not any(name in image.info for name in PNG_ENTRIES):
        # the entry may also follow the pixels, and to look there Pillow decodes all of them
        if b"eXIf" not in _chunk_types(path):
            return False
    return bool(image.getexif().get(ORIENTATION, 1) != 1)


def _chunk_types(path: Path) -> set[bytes]:
    """The types of the chunks of a PNG file, without reading their contents."""
    types = set()
    with open_file(path) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            types.add(head[4:])
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)  # contents and checksum
    return types
