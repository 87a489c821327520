"""Pictures of anyone: every way in which two folders fail to fit is named, and what is read is what
was written.
"""

import re
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import Files, natural, read
from phosphene.metrics.pairing import match


def pixels(n: int, side: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def write(folder, names, pictures=None, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    pictures = pixels(len(names)) if pictures is None else pictures
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(folder / f"{name}{suffix}")
    return folder


def paired(tmp_path, recons, originals, **options):
    made = write(tmp_path / "r", recons)
    shown = write(tmp_path / "o", originals)
    return match(read(made), read(shown), **options)


def refused(words: str, *more: str):
    """One sentence with these words in it."""
    return pytest.raises(PhospheneError, match=".*".join(map(re.escape, (words, *more))))


def test_what_is_read_is_what_was_written_in_natural_order(tmp_path):
    written = pixels(12)
    found = read(write(tmp_path / "p", [f"img{k}" for k in range(12)], written))
    assert found.names == [f"img{k}" for k in range(12)] and found.notes == []
    assert len(found.samples) == 1 and isinstance(found.samples[0], Files)
    np.testing.assert_array_equal(np.stack(list(found.samples[0])), written)
    assert [p.stem for p in found.samples[0][3:5].paths] == ["img3", "img4"]


def test_natural_order_is_that_of_people():
    assert sorted(["b10", "b9", "a2x10", "a2x9", "10", "9", "b"], key=natural) == [
        "9",
        "10",
        "a2x9",
        "a2x10",
        "b",
        "b9",
        "b10",
    ]


@pytest.mark.parametrize("suffix", [".PNG", ".jpg", ".JPEG"])
def test_endings_and_kinds(tmp_path, suffix):
    found = read(write(tmp_path / "p", ["a", "b"], suffix=suffix))
    assert found.names == ["a", "b"] and found.samples[0][0].shape == (12, 12, 3)


# Samples


def test_numbered_samples_and_sub_folders_are_the_same(tmp_path):
    written = pixels(6).reshape(3, 2, 12, 12, 3)  # (n, samples, ...)
    names = ["item0", "item1", "item10"]
    numbered = write(
        tmp_path / "a",
        [f"{name}_{k}" for name in names for k in (0, 1)],
        written.reshape(6, 12, 12, 3),
    )
    for k in (0, 1):
        write(tmp_path / "b" / f"sample{k}", names, written[:, k])
    shown = read(write(tmp_path / "o", names))
    for folder in (numbered, tmp_path / "b"):
        found, _ = match(read(folder), shown)
        assert found.names == names and len(found.samples) == 2
        for k in (0, 1):
            np.testing.assert_array_equal(np.stack(list(found.samples[k])), written[:, k])


@pytest.mark.parametrize("names", [["img_0", "img_1", "img_2"], ["a_0", "a_1", "b_0", "b_1"]])
def test_numbers_that_belong_to_the_name_are_no_samples(tmp_path, names):
    made, shown = paired(tmp_path, names, names)
    assert made.names == shown.names == names and len(made.samples) == len(shown.samples) == 1
    samples = [f"{name}_{k}" for name in names for k in range(3)]
    made, shown = match(read(write(tmp_path / "s", samples)), read(tmp_path / "o"))
    assert made.names == names and len(made.samples) == 3


def test_incomplete_samples_are_named(tmp_path):
    with refused("1 are missing", "b_1"):
        paired(tmp_path, ["a_0", "a_1", "b_0"], ["a", "b"])
    for k in range(2):
        write(tmp_path / "f" / str(k), ["a", "b"])
    (tmp_path / "f" / "1" / "b.png").unlink()
    with refused("samples", "1/b"):
        read(tmp_path / "f")


def test_originals_with_samples_are_refused(tmp_path):
    made = write(tmp_path / "r", ["a", "b"])
    for k in range(2):
        write(tmp_path / "o" / str(k), ["a", "b"])
    with refused("2 samples of each original"):
        match(read(made), read(tmp_path / "o"))


# Names


def test_pairs_are_found_by_name_not_by_order(tmp_path):
    written = pixels(3)
    made = read(write(tmp_path / "r", ["c", "a", "b"], written))
    made, shown = match(made, read(write(tmp_path / "o", ["a", "b", "c"], suffix=".jpg")))
    assert made.names == shown.names == ["a", "b", "c"]
    np.testing.assert_array_equal(np.stack(list(made.samples[0])), written[[1, 2, 0]])


def test_missing_and_extra_are_named_with_their_number(tmp_path):
    with refused(
        "7 originals have no reconstruction (p1, p2, p3, p4, p5, ...)",
        "1 reconstructions have no original (q)",
    ):
        paired(tmp_path, ["p8", "p9", "q"], [f"p{k}" for k in range(1, 10)])


def test_no_name_in_common_says_how_to_go_on(tmp_path):
    with refused("2 pictures each and no name in common", "recon1", "image1", "--by-order"):
        paired(tmp_path, ["recon1", "recon2"], ["image1", "image2"])
    made, shown = match(read(tmp_path / "r"), read(tmp_path / "o"), by_order=True)
    assert made.names == shown.names == ["image1", "image2"]


def test_by_order_needs_equal_numbers(tmp_path):
    with refused("found 3 pictures where", "has 2"):
        paired(tmp_path, ["a", "b", "c"], ["d", "e"], by_order=True)


# Damage


def test_unreadable_files_are_named(tmp_path):
    folder = write(tmp_path / "p", [f"n{k}" for k in range(9)], pixels(9, 64))
    write(folder, ["whole", "cut"], pixels(2, 64), ".jpg")
    data = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    (folder / "n1.png").write_bytes((folder / "n1.png").read_bytes()[:-200])
    (folder / "n2.png").write_bytes(b"")
    (folder / "n3.png").write_text("not a picture")
    flipped = bytearray((folder / "n4.png").read_bytes())
    flipped[len(flipped) // 2] ^= 255
    (folder / "n4.png").write_bytes(flipped)
    with refused(
        "5 of 11 files cannot be read as a picture (cut.jpg, n1.png, n2.png, n3.png, n4.png)"
    ):
        read(folder)


def test_a_file_that_breaks_later_is_named(tmp_path):
    found = read(write(tmp_path / "p", ["a", "b"]))
    (tmp_path / "p" / "b.png").write_bytes(b"broken")
    with refused("b.png: cannot be read as a picture"):
        found.samples[0][1]


def test_double_names_and_foreign_kinds_are_refused(tmp_path):
    folder = write(tmp_path / "p", ["a", "b"])
    write(folder, ["a"], suffix=".jpg")
    with refused("2 files share a name up to their ending", "a.jpg, a.png"):
        read(folder)
    (folder / "a.jpg").rename(folder / "c.tif")
    with refused("1 files are pictures of a kind that is not read (c.tif)"):
        read(folder)


def test_other_files_are_left_out_and_said_hidden_ones_silently(tmp_path):
    folder = write(tmp_path / "p", ["a", "b"])
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    (folder / "logs").mkdir()
    found = read(folder)
    assert found.names == ["a", "b"] and len(found.notes) == 1 and "1 of 3 files" in found.notes[0]
    assert "notes.txt" in found.notes[0]


def test_empty_mixed_missing_and_single(tmp_path):
    (tmp_path / "e").mkdir()
    with refused("holds no PNG or JPEG"):
        read(tmp_path / "e")
    write(tmp_path / "m", ["a"])
    write(tmp_path / "m" / "inner", ["b"])
    with refused("pictures and sub-folders with pictures (inner)"):
        read(tmp_path / "m")
    with refused("no such folder or file"):
        read(tmp_path / "nowhere")
    with refused("found a single file"):
        read(tmp_path / "m" / "a.png")


def test_grey_and_transparent_are_converted_and_said(tmp_path):
    folder = write(tmp_path / "p", ["a"])
    Image.new("L", (4, 4), 100).save(folder / "grey.png")
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGBA", (4, 4), (200, 0, 0, 255)).save(folder / "solid.png")
    found = dict(zip(read(folder).names, read(folder).samples[0], strict=True))
    assert (found["grey"] == 100).all() and (found["clear"] == 255).all()
    assert found["solid"].tolist() == [[[200, 0, 0]] * 4] * 4
    said = " ".join(read(folder).notes)
    assert (
        "1 of 4 pictures are grey" in said
        and "2 of 4 pictures have transparency" in said
        and "clear" in said
    )


@pytest.mark.parametrize("colour", [False, True])
def test_sixteen_bits_are_refused(tmp_path, colour):
    folder = write(tmp_path / "p", ["a"])
    if colour:  # Pillow cannot write it: the header is enough, it must not be opened as 8 bits
        with (folder / "deep.png").open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            PngImagePlugin.putchunk(
                file, b"IHDR", (4).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
            )
            PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(bytes((4 * 6 + 1) * 4)))
            PngImagePlugin.putchunk(file, b"IEND", b"")
        assert Image.open(folder / "deep.png").mode == "RGB"
    else:
        Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(folder / "deep.png")
    with refused("1 of 2 files have more than 8 bits per channel (deep.png)"):
        read(folder)


def test_turned_photographs_are_turned(tmp_path):
    picture = pixels(1, 16)[0][:8]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    (tmp_path / "p").mkdir()
    Image.fromarray(picture).save(tmp_path / "p" / "a.jpg", quality=100, subsampling=0, exif=exif)
    Image.fromarray(picture[::-1, ::-1]).save(tmp_path / "p" / "b.jpg", quality=100, subsampling=0)
    found = read(tmp_path / "p")
    assert np.abs(found.samples[0][0].astype(int) - found.samples[0][1]).mean() < 8
    assert "were turned" in found.notes[0] and "a.jpg" in found.notes[0]


# Tensors


@pytest.mark.parametrize("kind", ["uint8", "float32", "float16", "float64"])
def test_a_tensor_is_the_pictures_in_it(tmp_path, kind):
    written = pixels(3)
    tensor = torch.from_numpy(written).permute(0, 3, 1, 2)
    if kind != "uint8":
        tensor = (tensor.double() / 255).to(getattr(torch, kind))
    torch.save(tensor, tmp_path / "p.pt")
    found = read(tmp_path / "p.pt")
    assert found.ordered and found.names == ["0", "1", "2"]
    picture = found.samples[0][1]
    assert picture.dtype == (np.uint8 if kind == "uint8" else np.float32)
    expected = written[1] if kind == "uint8" else written[1] / 255
    np.testing.assert_allclose(picture, expected, atol=1e-3 if kind == "float16" else 1e-7)


def test_samples_and_dictionaries_and_old_files(tmp_path):
    tensor = torch.rand(4, 2, 3, 6, 5)
    torch.save(
        {"recons": tensor, "epoch": 3}, tmp_path / "p.pt", _use_new_zipfile_serialization=False
    )
    found = read(tmp_path / "p.pt")
    assert len(found.samples) == 2 and len(found.samples[0]) == 4
    np.testing.assert_array_equal(found.samples[1][2], tensor[2, 1].permute(1, 2, 0).numpy())
    made, shown = match(found, read(pixels(4)))
    assert made.names == shown.names == ["0", "1", "2", "3"]


class Bomb:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            torch.rand(3, 6, 6, 3),
            "expected (n, 3, height, width) or (n, n_samples, 3, height, width); its channels",
        ),
        (torch.rand(3, 6), "found a tensor of shape (3, 6)"),
        (torch.rand(2, 3, 6, 6) * 255, "2 of 2 pictures leave the range from 0 to 1 (0, 1;"),
        (torch.rand(2, 3, 6, 6) * 2 - 1, "leave the range"),
        (
            torch.rand(2, 3, 6, 6).index_put((torch.tensor(1),), torch.tensor(torch.nan)),
            "1 of 2 pictures hold NaN",
        ),
        (torch.ones(2, 3, 6, 6).int(), "found a tensor of type int32"),
        (
            {"a": torch.rand(2, 3, 4, 4), "b": torch.rand(2, 3, 4, 4)},
            "found tensors a, b, expected one tensor",
        ),
        ([1, 2], "found list, expected one tensor"),
        (Bomb(), "holds more than tensors and is not opened"),
    ],
)
def test_tensors_that_are_no_pictures_are_refused(tmp_path, capsys, content, words):
    torch.save(content, tmp_path / "p.pt")
    with refused(words):
        read(tmp_path / "p.pt")
    assert "ran" not in capsys.readouterr().out


def test_a_file_that_is_no_tensor_is_named(tmp_path):
    (tmp_path / "p.pt").write_bytes(b"PK\x03\x04 broken")
    with refused("p.pt: cannot be read as a .pt file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(tmp_path / "p.pt")


def test_arrays(tmp_path):
    found = read(pixels(6).reshape(3, 2, 12, 12, 3))
    assert len(found.samples) == 2 and len(found.samples[0]) == 3
    with refused("expected uint8 (n, height, width, 3)"):
        read(pixels(2).astype(np.float64))
