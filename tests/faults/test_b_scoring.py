"""Pictures that are converted, names with two spellings, masked features."""

from __future__ import annotations

import unicodedata
import warnings
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageCms

from phosphene.data.arrays import images
from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read
from phosphene.metrics.pairing import match
from phosphene.numerics.identification import (
    choose,
    correlations,
    identify,
    retrieval,
    two_way_identification,
)
from phosphene.ratings.analysis.metrics import _named, _wide
from phosphene.ratings.importing import read_csv

ORIENTATION = 0x0112
COMPOSED = "café"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def pixels(k: int = 0, side: int = 16) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (side, side, 3), np.uint8)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


def save_cmyk(path):
    Image.fromarray(pixels()).convert("CMYK").save(path, "JPEG")


def save_lab(path):
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    ImageCms.applyTransform(Image.fromarray(pixels()), to_lab).save(path, "TIFF")


def save_palette(path):
    Image.fromarray(pixels()).quantize(8).save(path, "PNG")


def save_animated(path):
    frames = [Image.fromarray(pixels(k)) for k in range(3)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])


def save_turned_png(path):
    Image.fromarray(pixels()).save(path, "PNG", exif=turned())


def save_turned_late(path):
    """The EXIF entry behind the pixels, where the format also allows it."""
    Image.fromarray(pixels()).save(path, "PNG")
    whole = path.read_bytes()
    Image.fromarray(pixels()).save(path, "PNG", exif=turned())
    marked = path.read_bytes()
    start = marked.index(b"eXIf") - 4
    length = int.from_bytes(marked[start : start + 4], "big") + 12
    path.write_bytes(whole[:-12] + marked[start : start + length] + whole[-12:])


def save_turned_mpo(path):
    frames = [Image.fromarray(pixels(k)) for k in range(2)]
    frames[0].save(path, "MPO", save_all=True, append_images=frames[1:], exif=turned())


def save_grey(path):
    Image.fromarray(pixels()[..., 0]).save(path, "PNG")


KINDS = [
    (save_cmyk, "jpg", {"are CMYK and were read as RGB"}),
    (save_lab, "png", {"are LAB and were read as RGB"}),
    (save_palette, "png", {"have a palette and were read as RGB"}),
    (save_animated, "png", {"hold several frames, of which the first was read"}),
    (save_turned_png, "png", {"were turned as their EXIF entry says"}),
    (save_turned_late, "png", {"were turned as their EXIF entry says"}),
    (
        save_turned_mpo,
        "jpg",
        {
            "hold several frames, of which the first was read",
            "were turned as their EXIF entry says",
        },
    ),
    (save_grey, "png", {"are grey and were read as RGB"}),
]


@pytest.mark.parametrize("save, ending, kinds", KINDS)
def test_b10_every_conversion_is_noted(tmp_path, save, ending, kinds):
    for k in range(2):
        Image.fromarray(pixels(k)).save(tmp_path / f"plain{k}.png")
    save(tmp_path / f"odd.{ending}")
    expected = {f"1 of 3 pictures {kind} (odd.{ending})" for kind in kinds}
    pictures = read(tmp_path)
    assert {note.removeprefix(f"{tmp_path}: ") for note in pictures.notes} == expected
    assert pictures.samples[0][pictures.names.index("odd")].shape == (16, 16, 3)
    # the same of a lab's own pictures
    paths = images.find_pictures(tmp_path, pictures.names)
    assert set(images.conversion_notes(paths)) == expected


def test_b10_sixteen_bits_are_refused(tmp_path):
    path = tmp_path / "a.png"
    for array, words in (
        (np.zeros((16, 16), np.uint16), "has pixels of type I;16"),
        (pixels(), "has 16 bits per channel"),
    ):
        Image.fromarray(array).save(path)
        data = bytearray(path.read_bytes())
        data[24] = 16  # bits per channel in the header; Pillow opens 16-bit colour as RGB
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path.write_bytes(bytes(data))
        with pytest.raises(PhospheneError, match=f"a.png: {words}.* 8 bits per channel"):
            images.read_picture(path, 8)
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(path)
    with pytest.raises(PhospheneError, match=r"1 of 1 files have more than 8 bits .*\(a.png\)"):
        read(tmp_path)


@pytest.mark.parametrize(
    "most, is_dark", [(1.0, False), (1 / 255, True), (0.0, True), (0.01, False)]
)
def test_b10_pictures_divided_twice_are_noted(tmp_path, most, is_dark):
    path = tmp_path / "x.pt"
    torch.save(most * torch.linspace(0, 1, 2 * 3 * 64).reshape(2, 3, 8, 8), path)
    note = (
        f"{path}: the largest value of all pictures is {most:.4g}, so they are all but black; "
        "expected 0 to 1, perhaps they were divided by 255 twice"
    )
    assert read(path).notes == [note] * is_dark


def test_b7_names_are_compared_in_one_spelling(tmp_path):
    for folder, name in (("r", COMPOSED), ("o", DECOMPOSED)):
        (tmp_path / folder).mkdir()
        for k in range(2):
            Image.fromarray(pixels(k)).save(tmp_path / folder / f"{name}{k}x.png")
    made, shown = match(read(tmp_path / "r"), read(tmp_path / "o"))
    assert made.names == shown.names == [f"{COMPOSED}0x", f"{COMPOSED}1x"]
    np.testing.assert_array_equal(made.samples[0][1], shown.samples[0][1])
    Image.fromarray(pixels()).save(tmp_path / "r" / f"{DECOMPOSED}0x.png")
    with pytest.raises(PhospheneError, match="2 files share a name"):
        read(tmp_path / "r")


def test_b7_imported_names_are_compared_in_one_spelling(tmp_path):
    lines = ["rater,image,method,hit,position"]
    lines += [f"{name},{name}{k},z,1,{k}" for k, name in enumerate((COMPOSED, DECOMPOSED))]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    answers = read_csv(tmp_path / "a.csv", {"rater": "rater"})
    assert set(answers["rater"]) == {COMPOSED}
    assert answers["image"].tolist() == [f"{COMPOSED}0", f"{COMPOSED}1"]
    scores = pd.DataFrame(
        {
            "preset": "pixel",
            "metric": "SSIM",
            "direction": "",
            "selection": "single",
            "value": [0.1, 0.2],
            "image": [f"{DECOMPOSED}0", f"{DECOMPOSED}1"],
            "subject": "s",
            "mode": "z",
        }
    )
    wide = _wide(scores, "single", ())
    assert wide.index.get_level_values("image").tolist() == answers["image"].tolist()
    assert _named(answers, scores)["image"].tolist() == answers["image"].tolist()


def test_b4_masked_features_are_refused():
    features = np.random.default_rng(0).normal(size=(5, 8))
    masked = np.ma.array(features, mask=np.arange(40).reshape(5, 8) % 11 == 0)
    square = np.ma.array(np.eye(5), mask=np.eye(5) > 0)
    for attempt in (
        lambda: correlations(masked, features),
        lambda: two_way_identification(features, masked),
        lambda: retrieval(masked, features),
        lambda: identify(square, direction="takagi2023"),
        lambda: choose(square[None], "mean"),
    ):
        with pytest.raises(PhospheneError, match="identification: found masked entries"):
            attempt()
    nothing = np.ma.array(features, mask=False)
    np.testing.assert_array_equal(correlations(nothing, features), correlations(features, features))


def test_c12_tensors_of_any_kind_are_identified():
    recon = torch.randn(6, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    original = (recon.float() + 0.5 * torch.randn(6, 16)).bfloat16()
    expected = two_way_identification(recon.float().numpy(), original.float().numpy())
    for kind in (lambda x: x, lambda x: x.float().requires_grad_(), lambda x: x.clone()):
        identified = two_way_identification(kind(recon), kind(original))
        assert identified.accuracy == expected.accuracy
        np.testing.assert_array_equal(identified.per_image, expected.per_image)


def test_b10_plain_pictures_are_not_noted(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    Image.fromarray(pixels()).save(tmp_path / "b.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path).notes == []
        assert images.conversion_notes(images.find_pictures(tmp_path, ["a", "b"])) == []
