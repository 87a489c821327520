"""Reading a region from one full-size NSD session, beside reading the session and masking it
afterwards.

A session of subject 1's size (81 x 104 x 83 voxels, 750 trials, int16) is drawn with a fixed seed
and written in both formats of NSD: HDF5 with one voxel's trials per chunk, and NIfTI, gzip level 6.
Outside a brain-like mask all is 0. The peers: ``authors hdf5`` reads the dataset whole and masks;
``authors nifti`` is ``nibabel.load(path).get_fdata()``, as nsd_access does for the released code of
Takagi & Nishimoto, then the mask. phosphene reads int16 and leaves it so. All ways run in turn,
each run in a fresh process once libraries are loaded, with a warm file cache; memory is the peak
above what the process held before. Values are compared. JSON goes to stdout and to
``results/reading.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
from common import machine_facts, peak_memory

SHAPE = (81, 104, 83)
TRIALS = 750
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
SIZES = {"early": 5917, "nsdgeneral": 15724, "brain": 221276}  # voxels of subject 1
AUTHORS = ("authors hdf5", "authors nifti")
OURS = ("phosphene hdf5", "phosphene nifti")
SESSIONS = 40


def main() -> None:
    """Write the session, measure every way and region in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the session is written and kept; by default a temporary one",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        write_session(folder)
        runs = [(way, region) for region in SIZES for way in (*OURS, *AUTHORS)]
        measured: dict[tuple[str, str], list[dict[str, float]]] = {run: [] for run in runs}
        for repeat in range(args.repeats):
            for way, region in runs:
                found = in_fresh_process(folder, way, region)
                measured[way, region].append(found)
                print(
                    f"{repeat} {way} {region}: {found['seconds']:.2f} s, {found['mib']:.0f} MiB",
                    file=sys.stderr,
                )
    result = {
        "machine": machine_facts("numpy", "h5py", "nibabel", "isal"),
        "regions": summary(measured),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    (args.out / "reading.json").write_text(text + "\n")
    print(text)


def summary(measured: dict[tuple[str, str], list[dict[str, float]]]) -> dict[str, Any]:
    """Medians, ratios to the peer of the same format, and 40 sessions by multiplication."""
    found: dict[str, Any] = {}
    for region, n_voxels in SIZES.items():
        mine = {way: runs for (way, where), runs in measured.items() if where == region}
        if len({run["checksum"] for runs in mine.values() for run in runs}) != 1:
            raise SystemExit(f"{region}: the ways do not read the same values")
        ways = {
            way: {
                "median_seconds": statistics.median(run["seconds"] for run in runs),
                "all_seconds": [run["seconds"] for run in runs],
                "median_mib_above_interpreter": statistics.median(run["mib"] for run in runs),
            }
            for way, runs in mine.items()
        }
        seconds = {way: one["median_seconds"] for way, one in ways.items()}
        found[region] = {
            "voxels": n_voxels,
            "ways": ways,
            "ratio_hdf5": seconds[AUTHORS[0]] / seconds[OURS[0]],
            "ratio_nifti": seconds[AUTHORS[1]] / seconds[OURS[1]],
            "ratio_our_nifti_to_their_hdf5": seconds[AUTHORS[0]] / seconds[OURS[1]],
            "estimated_minutes_of_40_sessions": {
                way: SESSIONS * one / 60 for way, one in seconds.items()
            },
        }
    return found


def in_fresh_process(folder: Path, way: str, region: str) -> dict[str, float]:
    """Read once in a process that has read nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(read, folder, way, region).result()


def read(folder: Path, way: str, region: str) -> dict[str, float]:
    """Seconds, memory and a checksum of one way of reading one region."""
    from phosphene.data.nsd.betas import Betas

    mask = np.load(folder / "masks.npz")[region]
    hdf5 = folder / "betas_session01.hdf5"
    nifti = folder / "betas_session01.nii.gz"
    index = np.argwhere(mask)
    with peak_memory() as memory:
        started = time.perf_counter()
        if way == "authors hdf5":
            with h5py.File(hdf5) as file:
                values = file["betas"][:][:, mask.T] / 300
            # the mask took X fastest; phosphene's order is X slowest
            order = np.argsort(np.lexsort(index.T))
            values = values[:, order]
        elif way == "authors nifti":
            values = (nib.load(nifti).get_fdata() / 300)[mask].T
        else:
            betas = Betas.open(hdf5 if way == "phosphene hdf5" else nifti)
            betas.check(TRIALS, SHAPE)
            values = betas.read(index)
        seconds = time.perf_counter() - started
    some = values[:, :: max(1, values.shape[1] // 500)]
    percent = some / 300 if some.dtype == np.int16 else some
    weights = np.arange(1, percent.size + 1).reshape(percent.shape) % 9973  # order matters
    return {
        "seconds": seconds,
        "mib": memory["above_base"],
        "checksum": round(float((percent * weights).sum()), 3),
    }


def write_session(folder: Path) -> None:
    """Draw and write a session in both formats, and the masks of the regions."""
    if (folder / "masks.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    distance = np.sqrt((grid**2).sum(0))
    brain = distance <= np.sort(distance, axis=None)[SIZES["brain"] - 1]
    behind = np.where(
        brain & (np.abs(distance - 0.6) < 0.1), grid[1] + 0.2 * np.abs(grid[0] - 0.1), np.inf
    )
    ranks = np.argsort(behind, axis=None)  # posterior voxels of a shell: in runs, as cortex is
    masks = {"brain": brain}
    for name in ("early", "nsdgeneral"):
        masks[name] = np.zeros(SHAPE, bool)
        masks[name].ravel()[ranks[: SIZES[name]]] = True
    x, y, z = SHAPE
    hdf5 = folder / "betas_session01.hdf5"
    with h5py.File(hdf5, "w") as file:
        data = file.create_dataset("betas", (TRIALS, z, y, x), "<i2", chunks=(TRIALS, 1, 1, 1))
        for slab in range(z):
            here = brain[:, :, slab]
            values = np.zeros((TRIALS, y, x), "<i2")
            values[:, here.T] = rng.normal(0, 450, (TRIALS, here.sum())).astype("<i2")
            data[:, slab] = values
        image = nib.nifti1.Nifti1Image(np.zeros((x, y, 1, 1), "<i2"), AFFINE)
        image.header.set_data_shape((x, y, z, TRIALS))
        image.header["vox_offset"] = 352
        with gzip.open(folder / "betas_session01.nii.gz", "wb", compresslevel=6) as out:
            out.write(image.header.binaryblock + bytes(4))
            for start in range(0, TRIALS, 125):
                # (trials, Z, Y, X) in C order is NIfTI's order
                out.write(data[start : start + 125].tobytes())
    np.savez(folder / "masks.npz", **masks)


if __name__ == "__main__":
    main()
