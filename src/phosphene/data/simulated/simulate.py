"""A simulated Natural Scenes Dataset: a known brain looks at drawn scenes, on disk in NSD's layout.

:mod:`phosphene.data.nsd.dataset` reads it as it reads the real data. What was simulated lies in
``truth/`` beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data import atlas
from phosphene.data.simulated import writing
from phosphene.data.simulated.brain import Anatomy, KnownBrain, draw_anatomy, draw_brain, measure
from phosphene.data.simulated.experiment import (
    Settings,
    World,
    draw_design,
    draw_world,
    response_table,
    stimulus_table,
    write_stimuli,
)
from phosphene.data.simulated.scenes import Scene, Thing
from phosphene.data.trials import ncsnr
from phosphene.errors import PhospheneError
from phosphene.reading import read_json
from phosphene.seeds import rng

VERSION = 1  # of what equal settings produce
TR = 4 / 3  # seconds
BETAS = "betas_fithrf_GLMdenoise_RR"
RESOLUTION = "func1pt8mm"
README = """SIMULATED, not NSD.

A known brain looked at drawn scenes; the files have the layout of the Natural Scenes Dataset
(naturalscenesdataset.org) so that the same code reads both, and contain none of its data. Voxels
are {voxel_size} mm although the folder is called func1pt8mm. SIMULATED.json holds the settings;
truth/ holds the scenes, the voxels' tuning and their noiseless answers.
"""


@dataclass(frozen=True)
class Truth:
    """What is known about a simulated subject (:func:`read_truth`).

    Attributes
    ----------
    voxels : DataFrame
        One row per voxel that answers to pictures, C order of (X, Y, Z): x, y, z, stream, ncsnr
        (true, of single trials), rf_x, rf_y, rf_size (fractions of the picture's side).
    images : ndarray of int, shape (n_images,)
        nsdId of every row of `responses`.
    responses : ndarray of float32, shape (n_images, n_voxels)
        Noiseless answers, about unit variance.
    """

    voxels: pd.DataFrame
    images: NDArray[np.int64]
    responses: NDArray[np.float32]


def simulate(
    root: str | Path,
    subjects: Sequence[str] = ("subj01",),
    images_shared: int = 100,
    images_own: int = 800,
    repeats: int = 3,
    sessions: int = 9,
    noise: float = 1.0,
    nifti: bool = False,
    seed: int = 0,
    picture_size: int = 64,
    voxel_size: float = 4.0,
) -> Path:
    """Write a simulated experiment in the layout of NSD.

    The folder appears under its name only when it is complete. Called again with equal settings it
    returns at once.

    Parameters
    ----------
    root : path
        Folder to make.
    subjects : sequence of str
        Of "subj01" to "subj08"; each has its own brain and its own images beside the shared ones.
    images_shared, images_own : int
        Images that all subjects see (the test images) and that one subject alone sees.
    repeats, sessions : int
        Presentations of every image; sessions over which all trials are spread equally. A few
        images are seen in the last session only, so that leaving it out loses test images, as in
        NSD.
    noise : float
        Factor of the trial noise; 1 is about NSD's.
    nifti : bool
        Write betas as NIfTI too.
    seed : int
    picture_size : int
        Side of the pictures in pixels.
    voxel_size : float
        Side of a voxel in mm.

    Returns
    -------
    Path
        `root`.

    Raises
    ------
    PhospheneError
        When the settings do not fit together or the folder holds something else.
    """
    settings = Settings(
        tuple(subjects),
        images_shared,
        images_own,
        repeats,
        sessions,
        float(noise),
        nifti,
        seed,
        picture_size,
        voxel_size,
    )
    settings.check()
    root = disk.expand_home(root)
    if _is_there(root, settings):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    building = root.parent / f".{root.name}.{os.getpid()}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    try:
        _write(building, settings)
        try:
            os.replace(building, root)
        # another process may have been faster; the same settings give the same files
        except OSError:
            if not _is_there(root, settings):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def _is_there(root: Path, settings: Settings) -> bool:
    marker = root / "SIMULATED.json"
    if not marker.is_file():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise PhospheneError(
                f"{root}: holds files that phosphene did not simulate; choose another folder"
            )
        return False
    old = read_json(marker, f"delete {root}, and the data are simulated again")
    new = json.loads(_marker(settings))
    if not isinstance(old, dict):
        raise PhospheneError(
            f"{marker}: is damaged; delete {root}, and the data are simulated again"
        )
    if old != new:
        differ = ", ".join(
            f"{key} = {old.get(key)} (asked: {new[key]})" for key in new if old.get(key) != new[key]
        )
        raise PhospheneError(
            f"{marker}: simulated with other settings, {differ}; delete the folder or choose "
            "another"
        )
    return True


def _marker(settings: Settings) -> str:
    return json.dumps({"version": VERSION, **asdict(settings)}, indent=1) + "\n"


def _write(root: Path, settings: Settings) -> None:
    world = draw_world(settings)
    design = draw_design(settings)
    design["sharedix"] = world.seen[:1, : settings.images_shared] + 1
    # subjects not simulated see nothing
    design["subjectim"] = np.zeros((8, settings.n_order), np.int64)
    for subject, seen in zip(settings.subjects, world.seen, strict=True):
        design["subjectim"][int(subject[-1]) - 1] = seen + 1
    experiment = root / "nsddata" / "experiments" / "nsd"
    writing.write_design(experiment / "nsd_expdesign.mat", design)
    stimulus_table(settings, world, design).to_csv(experiment / "nsd_stim_info_merged.csv")
    write_stimuli(root / "nsddata_stimuli" / "stimuli" / "nsd", world)
    (root / "truth").mkdir()
    (root / "truth" / "scenes.json").write_text(
        json.dumps([asdict(scene) for scene in world.scenes])
    )
    for subject, seen in zip(settings.subjects, world.seen, strict=True):
        log = root / "nsddata" / "ppdata" / subject / "behav" / "responses.tsv"
        log.parent.mkdir(parents=True)
        table = response_table(settings, subject, seen, design)
        table.to_csv(log, sep="\t", na_rep="NaN", index=False)
        _write_subject(root, settings, subject, world, design["masterordering"].ravel() - 1)
    (root / "README.txt").write_text(README.format(voxel_size=settings.voxel_size))
    (root / "SIMULATED.json").write_text(_marker(settings))


def _write_subject(
    root: Path, settings: Settings, subject: str, world: World, order: NDArray[np.int64]
) -> None:
    anatomy = draw_anatomy(settings.seed, subject, settings.voxel_size)
    brain = draw_brain(anatomy, settings.seed, subject)
    seen = world.seen[settings.subjects.index(subject)]
    answers = brain.respond([world.scenes[image] for image in seen], world.pictures[seen])
    _write_truth(root / "truth", settings, subject, brain, Truth(pd.DataFrame(), seen, answers))
    functional = root / "nsddata" / "ppdata" / subject / RESOLUTION
    _write_anatomy(root, subject, anatomy)
    lost_session = settings.sessions // 2 + 1
    lost = rng(settings.seed, "lost", subject).permutation(len(brain.voxels))[
        : max(3, len(brain.voxels) // 250)
    ]
    folder = root / "nsddata_betas" / "ppdata" / subject / RESOLUTION / BETAS
    standardised = []
    valid = np.zeros(anatomy.shape)
    for session in range(1, settings.sessions + 1):
        trials = order[(session - 1) * settings.n_trials : session * settings.n_trials]
        draw = rng(settings.seed, "scan", subject, session)
        percent = measure(brain, anatomy, answers[trials], draw, settings.noise)
        if session == lost_session:
            percent[:, lost] = 0
        stored = np.clip(np.rint(percent * 300), -32768, 32767).astype("<i2")
        volumes = np.zeros((len(trials), *anatomy.shape), "<i2")
        volumes[:, anatomy.mask] = stored
        writing.write_hdf5(folder / f"betas_session{session:02d}.hdf5", volumes)
        if settings.nifti:
            path = folder / f"betas_session{session:02d}.nii.gz"
            writing.write_nifti(path, volumes.transpose(1, 2, 3, 0), anatomy.affine, TR)
        covered = anatomy.mask & volumes.any(0)
        valid += covered / settings.sessions
        writing.write_nifti(
            functional / f"valid_session{session:02d}.nii.gz",
            covered.astype(np.int16),
            anatomy.affine,
        )
        centred = stored - stored.mean(0, dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):  # lost voxels become NaN, as in NSD
            standardised.append(centred / centred.std(0, ddof=1))
    writing.write_nifti(functional / "valid.nii.gz", valid.astype(np.float32), anatomy.affine)
    ceiling = np.full(anatomy.shape, np.nan, np.float32)
    ceiling[anatomy.mask] = ncsnr(np.concatenate(standardised), order, settings.repeats)
    writing.write_nifti(folder / "ncsnr.nii.gz", ceiling, anatomy.affine)


def _write_anatomy(root: Path, subject: str, anatomy: Anatomy) -> None:
    """Write masks, regions and the files that lead from the grid to the surface."""
    functional = root / "nsddata" / "ppdata" / subject / RESOLUTION
    writing.write_nifti(
        functional / "brainmask.nii.gz", anatomy.mask.astype(np.int16), anatomy.affine
    )
    writing.write_nifti(
        functional / "mean.nii.gz", (1000 * anatomy.mask).astype(np.float32), anatomy.affine
    )
    labels = root / "nsddata" / "freesurfer" / subject / "label"
    labels.mkdir(parents=True)
    shared = root / "nsddata" / "freesurfer" / "fsaverage" / "label"
    shared.mkdir(parents=True, exist_ok=True)
    for name, volume in anatomy.labels.items():
        halves = {
            "": volume,
            "lh.": np.where(anatomy.left, volume, -1),
            "rh.": np.where(anatomy.left, -1, volume),
        }
        for prefix, half in halves.items():  # float64 as NSD's regions that come from the surface
            writing.write_nifti(
                functional / "roi" / f"{prefix}{name}.nii.gz", half.astype(float), anatomy.affine
            )
        lines = ["0 Unknown"]
        lines += [f"{k} {label}" for k, label in enumerate(atlas.ATLASES[name], start=1)]
        for folder in (labels, shared):
            (folder / f"{name}.mgz.ctab").write_text("\n".join(lines) + "\n")
    transforms = root / "nsddata" / "ppdata" / subject / "transforms"
    for hemisphere, layers in anatomy.layers.items():
        for name, label in atlas.draw_regions(layers[1]).items():
            writing.write_mgz(labels / f"{hemisphere}.{name}.mgz", label)
        for number, points in enumerate(layers, start=1):
            grid = (points - anatomy.shift - anatomy.affine[:3, 3]) / np.diag(anatomy.affine)[:3]
            outside = ((grid < 0) | (grid > np.array(anatomy.shape) - 1)).any(1)
            one_based = np.where(outside[:, None], 9999, grid + 1)
            writing.write_mgz(
                transforms / f"{hemisphere}.func1pt8-to-layerB{number}.mgz", one_based
            )
        writing.write_mgz(
            transforms / f"{hemisphere}.white-to-fsaverage.mgz", np.arange(1, len(layers[1]) + 1)
        )
    (transforms / "SIMULATED").write_text(
        "The native surface is fsaverage5: 10242 vertices in each hemisphere.\n"
    )


def _write_truth(
    folder: Path, settings: Settings, subject: str, brain: KnownBrain, truth: Truth
) -> None:
    voxels = brain.voxels.loc[brain.active, ["x", "y", "z", "stream", "ncsnr"]].reset_index(
        drop=True
    )
    with np.errstate(divide="ignore"):
        voxels["ncsnr"] = voxels["ncsnr"] * truth.responses.std(0) / np.float64(settings.noise)
    voxels[["rf_x", "rf_y", "rf_size"]] = brain.fields
    voxels.to_csv(folder / f"{subject}_voxels.csv", index=False)
    np.save(folder / f"{subject}_images.npy", truth.images)
    np.save(folder / f"{subject}_responses.npy", truth.responses)


def read_truth(root: str | Path, subject: str) -> Truth:
    """Read what is known about a simulated subject."""
    folder = disk.expand_home(root) / "truth"
    if not (folder / f"{subject}_voxels.csv").is_file():
        raise PhospheneError(f"{folder}: no truth about {subject}; only simulated folders have it")
    images, responses = (
        np.load(folder / f"{subject}_{name}.npy") for name in ("images", "responses")
    )
    return Truth(pd.read_csv(folder / f"{subject}_voxels.csv"), images, responses)


def read_scenes(root: str | Path) -> list[Scene]:
    """Read the scenes of a simulated folder, indexed by image id."""
    path = disk.expand_home(root) / "truth" / "scenes.json"
    if not path.is_file():
        raise PhospheneError(f"{path}: no such file; only simulated folders have it")
    return [
        Scene(
            **{
                **entry,
                "things": tuple(_thing(thing) for thing in entry["things"]),
                "light": tuple(entry["light"]),
            }
        )
        for entry in read_json(path)
    ]


def _thing(entry: dict[str, Any]) -> Thing:
    return Thing(**{**entry, "shape": tuple(entry["shape"]), "tint": tuple(entry["tint"])})
