"""Names of brain regions: NSD's label tables, and the same regions drawn on fsaverage for the
simulated brain.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene import disk
from phosphene.errors import NoDataError, PhospheneError
from phosphene.reading import read_text

STREAMS = ("early", "ventral", "lateral", "parietal")
# Label k of atlas NAME is ATLASES[NAME][k - 1]; used where no .mgz.ctab lies beside the data (NSD
# data manual).
ATLASES: dict[str, tuple[str, ...]] = {
    "streams": (
        "early",
        "midventral",
        "midlateral",
        "midparietal",
        "ventral",
        "lateral",
        "parietal",
    ),
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "Kastner2015": (
        *(
            "V1v",
            "V1d",
            "V2v",
            "V2d",
            "V3v",
            "V3d",
            "hV4",
            "VO1",
            "VO2",
            "PHC1",
            "PHC2",
            "TO2",
            "TO1",
        ),
        *(
            "LO2",
            "LO1",
            "V3B",
            "V3A",
            "IPS0",
            "IPS1",
            "IPS2",
            "IPS3",
            "IPS4",
            "IPS5",
            "SPL1",
            "FEF",
        ),
    ),
}
LARGEST_LABEL = 32767  # labels are kept as int16
# The calcarine sulcus of the simulated brain: height of its fundus and widths of V1, V2, V3 above
# and below it, in mm.
CALCARINE_Z = 1.0
V1_EDGE = 7.0
V2_EDGE = 13.0
V3_EDGE = 20.0


def read_label_table(path: Path) -> dict[int, str]:
    """Read a FreeSurfer ``.mgz.ctab``: one ``<integer> <name>`` per line, names possibly followed
    by blanks.
    """
    table = {}
    text = read_text(path, "download it again", "a table of labels")
    try:
        for line in text.splitlines():
            if line.strip():
                number, name = line.split(None, 1)
                if abs(int(number)) > LARGEST_LABEL:
                    raise ValueError(f"a label has the number {number[:20]}")
                table[int(number)] = name.strip()
    except ValueError as error:
        raise PhospheneError(
            f"{path}: could not be read as a table of labels ({error}); download it again"
        ) from error
    return table


def label_table(root: Path, subject: str, atlas: str) -> Path | None:
    """Find the table of an atlas's labels: the subject's own goes before fsaverage's."""
    for owner in (subject, "fsaverage"):
        path = root / "nsddata" / "freesurfer" / owner / "label" / f"{atlas}.mgz.ctab"
        if disk.exists(path):
            return path
    return None


def label_names(root: Path, subject: str, atlas: str) -> dict[int, str]:
    """Return the names of an atlas's labels, without 0 (Unknown).

    Without a table (:func:`label_table`) NSD's published order is used, which is empty for an atlas
    that we do not know.
    """
    if path := label_table(root, subject, atlas):
        return {number: name for number, name in read_label_table(path).items() if number > 0}
    return dict(enumerate(ATLASES.get(atlas, ()), start=1))


def outlined(data: Any) -> dict[str, NDArray[np.int64]]:
    """Coordinates (n_voxels, 3) of the parts of visual cortex that maps outline.

    Parameters
    ----------
    data : Scans
        Parts that it does not name, or that hold no voxel, are left out.
    """
    regions = {}
    for name in STREAMS:
        if name in data.rois:
            with contextlib.suppress(NoDataError):
                regions[name] = data.select(name)
    return regions


def draw_regions(points: NDArray[np.floating]) -> dict[str, NDArray[np.int16]]:
    """Label points of fsaverage with simple boxes that stand where the real regions lie.

    Parameters
    ----------
    points : ndarray, shape (n_points, 3)
        Coordinates on fsaverage in mm (x right, y anterior, z up).

    Returns
    -------
    dict of ndarray of int16, shape (n_points,)
        Labels of ``streams``, ``nsdgeneral`` and ``prf-visualrois``; 0 is cortex without a label.
    """
    side = np.abs(points[:, 0])
    y = points[:, 1]
    z = points[:, 2]
    height = np.abs(z - CALCARINE_Z)
    early = (y < -68) & (side < 32) & (height < V3_EDGE)
    low = z < -1
    high = z > 25
    boxes = {
        "early": early,
        "midventral": low & (y < -66) & (side < 46),
        "midparietal": (z > 18) & (y < -78) & (side < 40),
        "midlateral": (side > 28) & (y < -76),
        "ventral": low & (y >= -66) & (y < -27) & (side > 12) & (side < 62),
        "parietal": high & (y < -52) & (side < 46),
        "lateral": ~low & (side > 34) & (y < -44) & (z < 34),
    }
    streams = np.zeros(len(points), np.int16)
    for name, box in boxes.items():
        streams[box & (streams == 0)] = ATLASES["streams"].index(name) + 1
    # ventral odd, dorsal even
    area = np.select([height < V1_EDGE, height < V2_EDGE], [1, 3], 5) + (z > CALCARINE_Z)
    hv4 = (streams == 2) & (y < -66)
    areas = np.where(early, area, np.where(hv4, 7, 0)).astype(np.int16)
    general = ((streams > 0) & (y < -40)).astype(np.int16)
    return {"streams": streams, "nsdgeneral": general, "prf-visualrois": areas}


def retinotopy(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where in the visual field points of early cortex look.

    Eccentricity grows from the lateral occipital pole forwards and inwards; the polar angle runs
    from the horizontal meridian in the fundus of the calcarine to the vertical one at V1's edge,
    turns back in V2 and again in V3. The lower bank sees the upper field and each hemisphere the
    other side.

    Returns
    -------
    eccentricity : ndarray, shape (n_points,)
        0 at the centre of gaze, 1 at the periphery that is mapped at all.
    angle : ndarray, shape (n_points,)
        Radians, counterclockwise from the right horizontal meridian, up positive.
    """
    x, y, z = points.T
    eccentricity = np.clip((0.85 * (y + 103) + 0.45 * (30 - np.abs(x))) / 42, 0, 1)
    height = z - CALCARINE_Z
    elevation = np.interp(np.abs(height), [0, V1_EDGE, V2_EDGE, V3_EDGE], [0, 1, 0, 1]) * np.pi / 2
    elevation = -np.sign(height) * elevation
    return eccentricity, np.where(x < 0, elevation, np.pi - elevation)
