"""Files that somebody else made: they name no other file, start no program, and damage does not go
unnoticed.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from phosphene.data import open_dataset
from phosphene.data.laion.files import read_pictures
from phosphene.data.nsd.betas import Betas
from phosphene.data.opening import open_hdf5, open_image, read_volume
from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import read as read_pictures_to_score
from support.environment import SOURCE
from support.nsd_data import small_nsd
from support.own_data import GRID, write_betas

PACKAGE = SOURCE / "phosphene"
SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 64


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_nsd(tmp_path_factory.mktemp("nsd") / "nsd")


OPENING = re.compile(
    r"h5py\.File\((?!.*\"w\")|Image\.open\(|nib\.load\(|nibabel\.load\(|json\.load\("
    r"|json\.loads\(.*read|tomllib|(?<!def )(?<![\w.])open\(|\.open\((?=\)|\"r|encoding|newline)"
    r"|\.read_text\(|\.read_bytes\(|np\.load\(|open_memmap\(|pd\.read_(?!parquet)|loadmat\("
    r"|zarr\.open|torch\.load\(|safe_open|load_file\("
)
DOORS = {"reading.py", "data/opening.py"}
WEIGHTS = {
    "models/tensor_files.py",
    "models/diffusion/sources.py",  # names of tensors, without reading them
    "models/perceptual/networks.py",  # likewise
}
SHIPPED = {
    "data/simulated/brain.py",  # nilearn's own meshes
    "maps/flatmap/flat.py",
    "maps/surface.py",
    "metrics/published.py",
    "models/diffusion/checkpoints.py",
    "models/diffusion/configuration.py",
    "models/judge/labels.py",
    "models/judge/network.py",
    "ratings/server/app.py",
}
OWN = {
    "data/chunks.py",  # headers, after opening.py has looked at the files
    "disk.py",
    "data/nsd/bucket.py",  # what was downloaded, to be hashed
    "data/simulated/simulate.py",
    "data/simulated/writing.py",
    "models/perceptual/cache.py",
    "numerics/ridge/saving.py",
    "ratings/server/links.py",
    "reporting/encoded.py",
    "steps/decompose.py",
    "steps/subject.py",
}


def test_there_is_one_door() -> None:
    """Nobody else opens files of users for reading."""
    openers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if OPENING.search(path.read_text(encoding="utf-8"))
    }
    openers = {name for name in openers if not name.startswith("pipeline/")}
    assert openers <= DOORS | WEIGHTS | SHIPPED | OWN


@pytest.mark.parametrize(
    "line",
    [
        "json.loads(path.read_text())",
        "with open(path) as file:",
        'with path.open("rb") as file:',
        "with path.open() as file:",
        "pd.read_csv(path)",
        "np.load(path)",
        "torch.load(path)",
        "h5py.File(path)",
        "import tomllib",
    ],
)
def test_the_search_for_other_doors_finds_them(line: str) -> None:
    assert OPENING.search(line)


def test_no_door_is_allowed_for_nothing() -> None:
    for name in WEIGHTS | SHIPPED | OWN:
        assert OPENING.search((PACKAGE / name).read_text(encoding="utf-8")), name


# HDF5


def external(path: Path, name: str, secret: Path, shape: tuple[int, ...], dtype: str) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_link(path: Path, name: str, secret: Path, shape: tuple[int, ...], dtype: str) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file[name] = np.zeros(shape, dtype)
    with h5py.File(path, "w") as file:
        file[name] = h5py.ExternalLink(str(secret.with_suffix(".h5")), name)


def soft_link(path: Path, name: str, secret: Path, shape: tuple[int, ...], dtype: str) -> None:
    external_link(path, "hidden", secret, shape, dtype)
    with h5py.File(path, "a") as file:
        file[name] = h5py.SoftLink("/hidden")


def virtual(path: Path, name: str, secret: Path, shape: tuple[int, ...], dtype: str) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file[name] = np.zeros(shape, dtype)
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), name, shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("attack", [external, external_link, soft_link, virtual])
def test_hdf5_that_refers_to_other_files(
    attack: Callable[..., None],
    folder: Path,
    nsd: Path,
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    refused = pytest.raises(
        PhospheneError, match="refers to another|expected one dataset called betas"
    )
    # a lab's own betas
    (folder / "betas.npy").unlink()
    attack(folder / "betas.h5", "betas", secret, (24, 24), "<i2")
    with refused:
        open_dataset("arrays", folder, "subj01").betas("all")
    # NSD's betas and pictures
    copy = Path(shutil.copytree(nsd, tmp_path / "nsd"))
    betas = next(copy.glob("nsddata_betas/**/betas_session01.hdf5"))
    header = Betas.open(betas)
    attack(betas, "betas", secret, (header.n_trials, *header.shape[::-1]), "<i2")
    with refused:
        open_dataset("nsd", copy, "subj01").betas("early")
    stimuli = next(copy.glob("nsddata_stimuli/**/nsd_stimuli.hdf5"))
    attack(stimuli, "imgBrick", secret, (16, 4, 4, 3), "u1")
    with refused:
        open_dataset("nsd", copy, "subj01").images([0])
    # pictures of LAION-fMRI
    attack(tmp_path / "laion.h5", "images", secret, (4,), "u1")
    with refused:
        read_pictures(tmp_path / "laion.h5", ["a", "b", "c", "d"], [0])


def test_hdf5_that_holds_its_data(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["betas"] = np.arange(6).reshape(2, 3)
        file["other"] = h5py.ExternalLink("/etc/passwd", "x")
        file.create_group("group")
    for name in ("betas", None):
        with open_hdf5(tmp_path / "x.h5", name) as data:
            np.testing.assert_array_equal(data[:], [[0, 1, 2], [3, 4, 5]])
    for name in ("absent", "group"):
        with pytest.raises(KeyError), open_hdf5(tmp_path / "x.h5", name):
            pass


# Pictures

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 30\n(%pipe%touch /tmp/owned) (w) "
    b"file\nshowpage\n%%EOF\n"
)


def test_pictures_start_no_program(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    (folder / "images" / "10.png").write_bytes(EPS)
    with pytest.raises(PhospheneError, match=r"10\.png: could not be read as a picture"):
        open_dataset("arrays", folder, "subj01").images([0])
    (tmp_path / "recons").mkdir()
    (tmp_path / "recons" / "a.png").write_bytes(EPS)
    with pytest.raises(PhospheneError, match=r"a\.png"):
        read_pictures_to_score(tmp_path / "recons")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "ICO", "TGA"])
def test_pictures_of_a_closed_list(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, kind)
    if kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        with open_image(buffer) as picture:
            assert picture.size == (16, 16)
    else:
        with pytest.raises(OSError, match="cannot identify"), open_image(buffer):
            pass


# Volumes


def flip_bit(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(bytes(data))


def unharmed(path: Path, original: bytes) -> bool:
    """Whether a flipped bit means nothing: compressed files have a few that no decompressor looks
    at.
    """
    try:
        return gzip.decompress(path.read_bytes()) == gzip.decompress(original)
    except (OSError, EOFError, zlib.error):
        return False


def test_a_flipped_bit_of_a_compressed_file_is_noticed(
    folder: Path,
    nsd: Path,
    tmp_path: Path,
) -> None:
    """Decompression alone does not notice most of them; the checksum at the end of the file
    does.
    """
    random = np.random.default_rng(0)
    noticed = 0
    write_betas(folder, "nii.gz", random.integers(0, 50, (24, 24)).astype(np.int16))
    whole = open_dataset("arrays", folder, "subj01").betas("all")
    copy = Path(shutil.copytree(nsd, tmp_path / "nsd"))
    next(copy.glob("**/betas_session01.hdf5")).unlink()  # NIfTI is read in its place
    for path in (
        folder / "betas.nii.gz",
        folder / "mask.nii.gz",
        next(copy.glob("**/betas_session01.nii.gz")),
        next(copy.glob("**/roi/streams.nii.gz")),
        next(copy.glob("**/brainmask.nii.gz")),
        next(copy.glob("**/ncsnr.nii.gz")),
    ):
        original = path.read_bytes()
        for where in [*random.integers(20, len(original) - 8, 8), len(original) - 6]:
            flip_bit(path, int(where))
            if unharmed(path, original):
                path.write_bytes(original)
                continue
            noticed += 1
            with pytest.raises(PhospheneError, match=re.escape(path.name)):
                if path.parent == folder:
                    open_dataset("arrays", folder, "subj01").betas("all")
                else:
                    data = open_dataset("nsd", copy, "subj01")
                    data.betas("early")
                    data.voxels("early")
            path.write_bytes(original)
    assert noticed > 40
    np.testing.assert_array_equal(open_dataset("arrays", folder, "subj01").betas("all"), whole)


SHIFTS = {
    "flipped": np.diag([-2.0, 2.0, 2.0, 1.0]),
    "3 mm": np.diag([3.0, 3.0, 3.0, 1.0]),
    "shifted": np.array([[2.0, 0, 0, 50], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("how", SHIFTS)
def test_volumes_must_lie_on_one_grid(how: str, folder: Path, nsd: Path, tmp_path: Path) -> None:
    write_betas(folder, "nii.gz", np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32))
    save = lambda path, values, affine: nib.save(nib.Nifti1Image(values, affine), path)  # noqa: E731
    save(
        folder / "mask.nii.gz",
        np.ones(GRID, np.uint8),
        np.diag([2.0, 2.0, 2.0, 1.0]) + np.eye(4)[:, [3]] * 1e-4,
    )
    open_dataset("arrays", folder, "subj01").betas("all")  # rounding of a header is no difference
    save(folder / "mask.nii.gz", np.ones(GRID, np.uint8), SHIFTS[how])
    with pytest.raises(
        PhospheneError,
        match=r"betas\.nii\.gz: its header puts the grid up to .* mm from where mask",
    ):
        open_dataset("arrays", folder, "subj01").betas("all")
    copy = Path(shutil.copytree(nsd, tmp_path / "nsd"))
    path = next(copy.glob("**/roi/streams.nii.gz"))
    image = nib.load(path)
    values = np.asarray(image.dataobj)
    save(path, values, image.affine @ np.linalg.inv(np.diag([2.0, 2.0, 2.0, 1.0])) @ SHIFTS[how])
    with pytest.raises(
        PhospheneError, match=r"streams\.nii\.gz: its header puts .* from where brainmask"
    ):
        open_dataset("nsd", copy, "subj01").betas("early")


def test_a_volume_of_another_shape(tmp_path: Path) -> None:
    for name, shape in (("a", (2, 3, 4)), ("b", (2, 3, 5))):
        nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), tmp_path / f"{name}.nii.gz")
    with pytest.raises(
        PhospheneError, match=r"its grid is \(2, 3, 4\); that of b.nii.gz is \(2, 3, 5\)"
    ):
        read_volume(tmp_path / "a.nii.gz", like=nib.load(tmp_path / "b.nii.gz"))
