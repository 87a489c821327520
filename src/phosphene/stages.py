"""The main path, from brain activity to pictures: extract -> decode -> reconstruct (scores: evaluation.py).

Every stage has the same shape: a ``*_recipe`` function says what its artefact is made from, the stage makes what is
missing part by part, and a ``_*_part`` function makes one part in whatever process. A stage pulls the stages before
it. Only this file and evaluation.py know both a `Study` and the
science.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phosphene import ldm
from phosphene.data import Dataset, open_dataset
from phosphene.errors import PhospheneError
from phosphene.parallel import run_parts
from phosphene.ridge import RidgeCV
from phosphene.scoring import correlation
from phosphene.store import Artefact, Recipe, Store
from phosphene.study import Compute, Study, rng

if TYPE_CHECKING:
    from phosphene.store import Part

Rows = NDArray[np.float32]
VERSION = {"extract": 1, "decode": 1, "reconstruct": 1}
IMAGES_PER_PART, TARGETS_PER_PART, ITEMS_PER_PART = 250, 4096, 8
BRAIN, SHUFFLED, TRUE = "brain", "shuffled", "true"  # where the features of a reconstruction come from
MODE_FEATURES = {"z": ("z",), "c": ("c",), "zc": ("z", "c")}


# What the stages read


@cache
def _open(kind: str, root: str, subject: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return open_dataset(kind, root, subject, **dict(options))


@cache
def _fingerprint(kind: str, root: str, subject: str, options: tuple[tuple[str, Any], ...]) -> str:
    return _open(kind, root, subject, options).fingerprint()


def _place(study: Study, subject: str) -> tuple[str, str, str, tuple[tuple[str, Any], ...]]:
    """Where a subject's data lie, simulated first when the study is a demo and its folder is not there yet."""
    data, root = study.data, study.data_root
    if data.simulate.enabled and not root.exists():
        from phosphene.data.simulate import simulate

        settings = {f.name: getattr(data.simulate, f.name) for f in fields(data.simulate) if f.name != "enabled"}
        simulate(root, subjects=data.subjects, seed=study.seed, **settings)
    options = ("betas", "resolution", "sessions") if data.kind == "nsd" else ()
    return data.kind, str(root), subject, tuple((name, getattr(data, name)) for name in options)


def dataset(study: Study, subject: str) -> Dataset:
    """Open one subject's data; a process opens them once."""
    return _open(*_place(study, subject))


def data_fingerprint(study: Study, subject: str) -> str:
    """Hash of one subject's data, the same wherever the files lie."""
    return _fingerprint(*_place(study, subject))


@cache
def _model(name: str, device: str) -> ldm.LatentDiffusion:
    return ldm.LatentDiffusion.load(name, device)


@cache
def _model_fingerprint(name: str) -> str:
    return ldm.fingerprint(name)


def image_ids(data: Dataset) -> NDArray[np.int64]:
    """Ids of every picture that was seen, ascending: the rows of the extracted features."""
    return np.unique(data.trials["image"].to_numpy())


def items(study: Study, data: Dataset) -> pd.DataFrame:
    """What is decoded: one row per test image, or per row of `trials` when runs are left out in turn."""
    trials = data.trials
    if study.decode.leave_out == "run":
        return pd.DataFrame({"image": trials["image"], "run": trials["run"], "n_trials": 1}).reset_index(drop=True)
    counts = trials.loc[trials["split"] == "test", "image"].value_counts().sort_index()
    if counts.empty:
        raise PhospheneError(
            f"{study.data_root}: found no test trials for {data.subject}, expected images of the shared set; "
            "use more sessions, or set decode.leave_out = 'run'."
        )
    return pd.DataFrame({"image": counts.index.to_numpy(), "run": 0, "n_trials": counts.to_numpy()})


# The one shape of a stage


def make(study: Study, recipe: Recipe, n_parts: int, work: Callable[[Artefact, int], None], compute: Compute,
          prepare: Callable[[Artefact], None] = lambda artefact: None) -> Artefact:  # fmt: skip
    """Make the parts of an artefact that are missing, and finish it."""
    artefact = Store(study.root).artefact(recipe)
    if not artefact.done:
        prepare(artefact)
        run_parts(partial(work, artefact), artefact.missing(n_parts), compute, f"{recipe.stage} {recipe.name}")
        artefact.finish()
    return artefact


def _slice(part: int, size: int, total: int) -> slice:
    return slice(part * size, min((part + 1) * size, total))


def _n_parts(total: int, size: int) -> int:
    return -(-total // size)


# Extract: pictures and captions -> z, c


def extract_recipe(study: Study, subject: str, feature: str) -> Recipe:
    """What the features of all seen pictures are made from."""
    inputs = {"data": data_fingerprint(study, subject), "model": _model_fingerprint(study.model.name)}
    settings = study.settings("model", "size", "latent_size", "posterior")
    return Recipe("extract", f"{subject}-{feature}", VERSION["extract"], settings, inputs)


def extract(study: Study, subject: str, feature: str, compute: Compute) -> Artefact:
    """Compute ``z`` or ``c`` of every picture; array `features` (n_images, d), rows as :func:`image_ids`."""
    ids = image_ids(dataset(study, subject))
    model = _model(study.model.name, compute.device)
    width = int(np.prod(model.latent_shape(study.model.latent_size) if feature == "z" else model.context_shape))

    def prepare(artefact: Artefact) -> None:
        artefact.create_array("features", (len(ids), width), "float32", (min(IMAGES_PER_PART, len(ids)), width))

    work = partial(_extract_part, study=study, subject=subject, feature=feature, device=compute.device)
    return make(
        study, extract_recipe(study, subject, feature), _n_parts(len(ids), IMAGES_PER_PART), work, compute, prepare
    )


def _extract_part(artefact: Artefact, index: int, *, study: Study, subject: str, feature: str, device: str) -> None:
    data, model = dataset(study, subject), _model(study.model.name, device)
    ids = image_ids(data)
    rows = _slice(index, IMAGES_PER_PART, len(ids))
    if feature == "z":
        values = model.image_to_latent(data.images(ids[rows].tolist()), study.model.latent_size)
    else:
        values = model.text_to_context(data.captions(ids[rows].tolist()))
    with artefact.part(index) as part:
        part.array("features", rows, values)


# Decode: brain -> z, c


def decode_recipe(study: Study, subject: str, feature: str, source: str = BRAIN, rois: Sequence[str] = ()) -> Recipe:
    """What predicted features are made from; `rois` in place of the study's own answers "which part knows it?"."""
    chosen = list(rois) or list(getattr(study.decode, feature).rois)
    settings = study.settings("decode", "preset", "alphas", "cv", "grouped", "standardize", "leave_out")
    settings |= {"rois": chosen, **study.settings("data", "zscore")}
    if source == SHUFFLED:
        settings |= {"shuffled": study.seed}
    name = "-".join(
        [subject, feature, *(["shuffled"] if source == SHUFFLED else []), *(r.replace("/", "_") for r in rois)]
    )
    inputs = {"features": extract_recipe(study, subject, feature).hash, "data": data_fingerprint(study, subject)}
    return Recipe("decode", name, VERSION["decode"], settings, inputs)


def decode(
    study: Study, subject: str, feature: str, compute: Compute, source: str = BRAIN, rois: Sequence[str] = ()
) -> Artefact:
    """Predict features from brain activity with ridge regression (paper, section C).

    Arrays: `prediction` (n_items, d), `best_alphas` (d,), and `r` (d,), the correlation over items between
    predicted and true features. Rows are those of :func:`items`. With `source` "shuffled" the pairing of brain and
    picture is broken in the training data: the control that must fail.
    """
    features = extract(study, subject, feature, compute)
    n, width = len(items(study, dataset(study, subject))), features.array("features").shape[1]

    def prepare(artefact: Artefact) -> None:
        block = min(TARGETS_PER_PART, width)
        artefact.create_array("prediction", (n, width), "float32", (n, block))
        for name in ("best_alphas", "r"):
            artefact.create_array(name, (width,), "float64", (block,))

    work = partial(_decode_part, study=study, subject=subject, feature=feature, source=source, rois=tuple(rois))
    recipe = decode_recipe(study, subject, feature, source, rois)
    return make(study, recipe, _n_parts(width, TARGETS_PER_PART), work, compute, prepare)


@contextmanager
def without_warnings(when: bool = True) -> Iterator[None]:
    """Keep quiet where warnings say nothing new: controls that must fail, and regions that are compared."""
    with warnings.catch_warnings():
        if when:
            warnings.simplefilter("ignore", UserWarning)
        yield


def _decode_part(artefact: Artefact, index: int, *, study: Study, subject: str, feature: str, source: str,
                 rois: tuple[str, ...]) -> None:  # fmt: skip
    data, wanted = dataset(study, subject), items(study, dataset(study, subject))
    features = Store(study.root).artefact(extract_recipe(study, subject, feature)).array("features")
    columns = _slice(index, TARGETS_PER_PART, features.shape[1])
    Y = np.asarray(features[:, columns], np.float32)
    with without_warnings(bool(rois) or source == SHUFFLED):
        X = data.betas(rois or getattr(study.decode, feature).rois, zscore=study.data.zscore)
        prediction, alphas = _predict(study, data, X, Y, source)
    truth = Y[np.searchsorted(image_ids(data), wanted["image"].to_numpy())]
    with artefact.part(index) as part:
        part.array("prediction", (slice(0, len(wanted)), columns), prediction)
        part.array("best_alphas", columns, alphas)
        part.array("r", columns, correlation(truth, prediction, axis=0))


def _predict(study: Study, data: Dataset, X: Rows, Y: Rows, source: str) -> tuple[Rows, NDArray[np.float64]]:
    """Fit on the training trials and predict the items: (n_items, n_targets), and the chosen alphas (n_targets,)."""
    images = data.trials["image"].to_numpy()
    seen = np.searchsorted(image_ids(data), images)
    told = _shuffle(study, data, seen) if source == SHUFFLED else seen
    if study.decode.leave_out == "run":
        return _predict_left_out(study, X, Y, told, data.trials["run"].to_numpy())
    train = (data.trials["split"] == "train").to_numpy()
    model = _fit(study, X[train], Y[told[train]], seen[train])
    averages = np.stack([X[images == image].mean(axis=0) for image in items(study, data)["image"]])
    return model.predict(averages), model.best_alphas_


def _fit(study: Study, X: Rows, Y: Rows, groups: NDArray[np.int64]) -> RidgeCV:
    """Fit the study's ridge; the ``paper`` preset is the authors' grid and plain folds over trials."""
    settings, paper = study.decode, study.decode.preset == "paper"
    alphas = np.logspace(-6, 0, 7) if paper else np.array(settings.alphas)
    model = RidgeCV(alphas=alphas, cv=settings.cv, standardize=settings.standardize)
    return model.fit(X, Y, groups=groups if settings.grouped and not paper else None)


def _predict_left_out(study: Study, X: Rows, Y: Rows, told: NDArray[np.int64],
                      runs: NDArray[np.int64]) -> tuple[Rows, NDArray[np.float64]]:  # fmt: skip
    """Predict every run from a model fitted on all the others; alphas are the geometric mean over those models."""
    prediction, logs = np.empty((len(X), Y.shape[1]), np.float32), []
    for run in np.unique(runs):
        model = _fit(study, X[runs != run], Y[told[runs != run]], runs[runs != run])
        prediction[runs == run] = model.predict(X[runs == run])
        logs.append(np.log(model.best_alphas_))
    return prediction, np.exp(np.mean(logs, axis=0))


def _shuffle(study: Study, data: Dataset, seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell the regression a wrong picture: training images swapped among themselves, or within each left-out run."""
    told = seen.copy()
    random = rng(study.seed, data.subject, "shuffled")
    if study.decode.leave_out == "run":
        for run in data.trials["run"].unique():
            rows = np.flatnonzero(data.trials["run"] == run)
            told[rows] = seen[random.permutation(rows)]
        return told
    train = (data.trials["split"] == "train").to_numpy()
    images = np.unique(seen[train])
    told[train] = random.permutation(images)[np.searchsorted(images, seen[train])]
    return told


# Reconstruct: z, c -> pictures


def reconstruct_recipe(study: Study, subject: str, mode: str, source: str = BRAIN) -> Recipe:
    """What reconstructions are made from."""
    settings = study.settings("reconstruct", "samples", "strength", "steps", "guidance") | {
        "mode": mode,
        "seed": study.seed,
    }
    settings |= study.settings("model", "size", "latent_size")
    inputs = {"model": _model_fingerprint(study.model.name)}
    for feature in MODE_FEATURES[mode]:
        true = source == TRUE
        inputs[feature] = (
            extract_recipe(study, subject, feature) if true else decode_recipe(study, subject, feature, source)
        ).hash
    name = f"{subject}-{mode}" + ("" if source == BRAIN else f"-{source}")
    return Recipe("reconstruct", name, VERSION["reconstruct"], settings, inputs)


def reconstruct(study: Study, subject: str, mode: str, compute: Compute, source: str = BRAIN) -> Artefact:
    """Make pictures from decoded features: files ``pictures/item00000_0.png`` (item, sample)."""
    for feature in MODE_FEATURES[mode]:
        decode(study, subject, feature, compute, BRAIN if source == TRUE else source)
    n = len(items(study, dataset(study, subject)))
    work = partial(_reconstruct_part, study=study, subject=subject, mode=mode, source=source, compute=compute)
    return make(study, reconstruct_recipe(study, subject, mode, source), _n_parts(n, ITEMS_PER_PART), work, compute)


def _features(study: Study, subject: str, feature: str, source: str, rows: slice) -> Rows:
    """Rows of the features that a reconstruction starts from."""
    if source != TRUE:
        decoded = Store(study.root).artefact(decode_recipe(study, subject, feature, source))
        return np.asarray(decoded.array("prediction")[rows], np.float32)
    data, true = dataset(study, subject), Store(study.root).artefact(extract_recipe(study, subject, feature))
    wanted = np.searchsorted(image_ids(data), items(study, data)["image"].to_numpy()[rows])
    rows_of_all: Rows = np.asarray(true.array("features")[:], np.float32)
    return rows_of_all[wanted]


def _reconstruct_part(artefact: Artefact, index: int, *, study: Study, subject: str, mode: str, source: str,
                      compute: Compute) -> None:  # fmt: skip
    model = _model(study.model.name, compute.device)
    wanted = items(study, dataset(study, subject))
    rows = _slice(index, ITEMS_PER_PART, len(wanted))
    images = wanted["image"].to_numpy()[rows]
    z = c = None
    if "z" in MODE_FEATURES[mode]:
        coarse = model.latent_to_image(_features(study, subject, "z", source, rows))
    if mode == "z":
        pictures = [(k, 0, ldm.resize(coarse, model.size)[k]) for k in range(len(images))]
    else:
        c = _features(study, subject, "c", source, rows)
        if mode == "zc":
            z = model.image_to_latent(ldm.resize(coarse, model.size, Image.Resampling.BICUBIC))
        pictures = _sample(model, study, subject, z, c, rows, compute.batch or 24)
    with artefact.part(index) as part:
        for k, sample, picture in pictures:
            _write_picture(
                part, f"pictures/item{rows.start + k:05d}_{sample}.png", picture, artefact.recipe, int(images[k])
            )


def _sample(model: ldm.LatentDiffusion, study: Study, subject: str, z: Rows | None, c: Rows, rows: slice,
            batch: int) -> list[tuple[int, int, NDArray[np.uint8]]]:  # fmt: skip
    """Draw all samples of the items in `rows`: (item within the part, sample, picture)."""
    settings = study.reconstruct
    wanted = [(k, s) for k in range(len(c)) for s in range(settings.samples)]
    drawn: list[tuple[int, int, NDArray[np.uint8]]] = []
    for start in range(0, len(wanted), batch):
        some = wanted[start : start + batch]
        index = [k for k, _ in some]
        seeds = [int(rng(study.seed, subject, rows.start + k, s).integers(2**62)) for k, s in some]
        made = model.denoise(None if z is None else z[index], c[index], seeds=seeds, strength=settings.strength,
                             steps=settings.steps, guidance=settings.guidance)  # fmt: skip
        drawn += [(k, s, picture) for (k, s), picture in zip(some, made, strict=True)]
    return drawn


def _write_picture(part: Part, name: str, picture: NDArray[np.uint8], recipe: Recipe, image: int) -> None:
    """Write a PNG that carries what it was made from."""
    about, stream = PngInfo(), io.BytesIO()
    about.add_text(
        "phosphene", json.dumps({"recipe": json.loads(recipe.canonical), "hash": recipe.hash, "image": image})
    )
    Image.fromarray(picture).save(stream, "PNG", pnginfo=about)
    part.file(name, stream.getvalue())


def pictures(artefact: Artefact, n_items: int) -> NDArray[np.uint8]:
    """Read a reconstruction's pictures, uint8 (n_items, n_samples, height, width, 3)."""
    names = sorted((artefact.path / "pictures").glob("item*.png"))
    flat = np.stack([np.asarray(Image.open(name)) for name in names])
    return flat.reshape(n_items, -1, *flat.shape[1:])
