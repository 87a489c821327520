"""The main path, from brain activity to pictures: betas, extract -> decode -> reconstruct (scores:
evaluation.py).

Every stage has the same shape: a ``*_recipe`` function says what its artefact is made from, the
stage makes what is missing part by part, and a ``_*_part`` function makes one part in whatever
process. A stage pulls the stages before it. Only this file, decoding.py and evaluation.py know both
a `Study` and the science.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phosphene.data import Dataset
from phosphene.data.scans import Scans
from phosphene.data.trials import assemble, warn_uncovered
from phosphene.errors import NoDataError, PhospheneError
from phosphene.metrics.image_files import opened
from phosphene.models import diffusion
from phosphene.models.diffusion.captions import check_captions
from phosphene.numerics import ridge
from phosphene.numerics.correlation import correlation
from phosphene.pipeline.parallel import run_parts
from phosphene.pipeline.store import Artefact, Recipe, Store
from phosphene.seeds import rng
from phosphene.steps import decoding
from phosphene.steps.decoding import Rows, image_ids, items, predict
from phosphene.steps.subject import data_fingerprint, dataset, load_model, model_fingerprint
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    from phosphene.pipeline.store import Part

VERSION = {"betas": 1, "extract": 1, "decompose": 1, "decode": 3, "reconstruct": 1}
IMAGES_PER_PART = 250
TARGETS_PER_PART = 4096
ITEMS_PER_PART = 8
VOXELS_PER_CHUNK = 4096
EXTRACTED_AT_ONCE = 48  # pictures that are read together; the model cuts them into its own blocks
LEFT_OUT = (
    "left_out"  # fact of results that hold nothing, since their region has no data: the reason
)
# Where the features of a reconstruction come from. MEAN: of the training trials; CATEGORY: c of the
# names of things.
BRAIN = "brain"
SHUFFLED = "shuffled"
TRUE = "true"
MEAN = "mean"
CATEGORY = "category"
MODE_FEATURES = {"z": ("z",), "c": ("c",), "zc": ("z", "c")}


# The one shape of a stage


def make(
    study: Study,
    recipe: Recipe,
    n_parts: int,
    work: Callable[[Artefact, int], None],
    compute: Compute,
    prepare: Callable[[Artefact], None] = lambda artefact: None,
) -> Artefact:
    """Make the parts of an artefact that are missing, and finish it."""
    artefact = Store(study.root).artefact(recipe)
    if not artefact.done:
        prepare(artefact)
        run_parts(
            partial(work, artefact),
            artefact.missing(n_parts),
            compute,
            f"{recipe.stage} {recipe.name}",
        )
        artefact.finish()
    return artefact


def part_slice(part: int, size: int, total: int) -> slice:
    return slice(part * size, min((part + 1) * size, total))


def part_count(total: int, size: int) -> int:
    return -(-total // size)


# Betas: scans -> trials x voxels


def betas_recipe(study: Study, subject: str, rois: Sequence[str]) -> Recipe:
    """What the responses of some regions are made from."""
    inputs = {"data": data_fingerprint(study, subject)}
    return Recipe("betas", _roi_name(subject, rois), VERSION["betas"], {"rois": list(rois)}, inputs)


def _roi_name(subject: str, rois: Sequence[str]) -> str:
    return "-".join([subject, *(roi.replace("/", "_").replace("+", "plus") for roi in rois)])[:100]


def betas(study: Study, subject: str, rois: Sequence[str], compute: Compute) -> Artefact | None:
    """Take the responses of some regions out of the files of all sessions, once; None where data
    are small.

    Arrays `betas/session01`, ... (n_trials of the session, n_voxels) as stored: in NSD int16, 300
    times percent signal change. Table `voxels`: where every column lies.
    """
    data = dataset(study, subject)
    if not isinstance(data, Scans):
        return None
    n_voxels = len(data.voxels(rois, uncovered="nan"))

    def prepare(artefact: Artefact) -> None:
        for session, n in data.trials["session"].value_counts().items():
            chunks = (n, min(VOXELS_PER_CHUNK, n_voxels))
            artefact.create_array(session_array(session), (n, n_voxels), data.dtype, chunks)

    work = partial(_betas_part, study=study, subject=subject, rois=tuple(rois))
    return make(
        study, betas_recipe(study, subject, rois), len(data.sessions), work, compute, prepare
    )


def _betas_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, rois: tuple[str, ...]
) -> None:
    data = dataset(study, subject)
    assert isinstance(data, Scans)
    session = data.sessions[index]
    with artefact.part(index) as part:
        values = data.stored(rois, session)
        part.array(session_array(session), slice(0, len(values)), values)
        if index == 0:
            part.table("voxels", data.voxels(rois, uncovered="nan"))


def session_array(number: int) -> str:
    """Name of the array of one session's responses in the stage betas."""
    return f"betas/session{number:02d}"


def responses(study: Study, subject: str, rois: Sequence[str]) -> Rows:
    """Read what :func:`betas` took: z-scored, (n_trials, n_voxels with data in every session)."""
    data = dataset(study, subject)
    if not isinstance(data, Scans):
        return data.betas(rois, zscore=study.data.zscore)
    found, covered = assembled(study, data, rois)
    warn_uncovered(covered, subject, study.data_root)
    return found


def assembled(
    study: Study, data: Scans, rois: Sequence[str], columns: slice = slice(None)
) -> tuple[Rows, NDArray[np.bool_]]:
    """Read some voxels of what :func:`betas` took, one session after the other, standardised.

    Returns
    -------
    responses : ndarray of float32, (n_trials, n_voxels with data in every session)
    covered : ndarray of bool, (n_voxels,)
    """
    artefact = Store(study.root).artefact(betas_recipe(study, data.subject, rois))
    arrays = [artefact.array(session_array(number)) for number in data.sessions]
    train = data.trials["split"] == "train"
    n_voxels = len(range(*columns.indices(arrays[0].shape[1])))
    blocks = (np.asarray(array[:, columns]) for array in arrays)
    return assemble(blocks, (len(train), n_voxels), train.to_numpy(), study.data.zscore, data.scale)


# Extract: pictures and captions -> z, c


def extract_recipe(study: Study, subject: str, feature: str) -> Recipe:
    """What the features of all seen pictures are made from."""
    inputs = {
        "data": data_fingerprint(study, subject),
        "model": model_fingerprint(study.model.name),
    }
    settings = study.settings("model", "latent_size", *(["latent"] if feature == "z" else []))
    if feature == "z" and study.model.latent == "sample":
        settings |= {"seed": study.seed}
    return Recipe("extract", f"{subject}-{feature}", VERSION["extract"], settings, inputs)


def extract(study: Study, subject: str, feature: str, compute: Compute) -> Artefact:
    """Compute ``z`` or ``c`` of every picture; array `features` (n_images, d), rows as
    :func:`image_ids`.
    """
    data = dataset(study, subject)
    ids = image_ids(data)
    model = load_model(study.model.name, compute.device)
    width = int(
        np.prod(
            model.latent_shape(study.model.latent_size) if feature == "z" else model.context_shape
        )
    )

    def prepare(artefact: Artefact) -> None:
        if feature == "c":
            names = getattr(data, "names", None)  # of data whose images have names
            check_captions(
                model, data.captions(ids.tolist()), [names[k] if names else k for k in ids.tolist()]
            )
        artefact.create_array(
            "features", (len(ids), width), "float32", (min(IMAGES_PER_PART, len(ids)), width)
        )

    work = partial(_extract_part, study=study, subject=subject, feature=feature, compute=compute)
    return make(
        study,
        extract_recipe(study, subject, feature),
        part_count(len(ids), IMAGES_PER_PART),
        work,
        compute,
        prepare,
    )


def _extract_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, feature: str, compute: Compute
) -> None:
    data = dataset(study, subject)
    model = load_model(study.model.name, compute.device)
    ids = image_ids(data)
    rows = part_slice(index, IMAGES_PER_PART, len(ids))
    values = []
    with artefact.part(index) as part:
        for some in np.split(
            ids[rows], range(EXTRACTED_AT_ONCE, len(ids[rows]), EXTRACTED_AT_ONCE)
        ):
            if feature == "z":
                seeds = latent_seeds(study, [(subject, int(image)) for image in some])
                values.append(
                    model.image_to_latent(
                        data.images(some.tolist()), study.model.latent_size, seeds
                    )
                )
            else:
                with without_warnings():  # of captions that are cut: `extract` has counted them
                    values.append(model.text_to_context(data.captions(some.tolist())))
        part.array("features", rows, np.concatenate(values))


# Decode: brain -> z, c


def decompose_recipe(study: Study, subject: str, rois: Sequence[str]) -> Recipe:
    """What the part of the regressions that all features share is made from."""
    settings = study.settings(
        "decode", "preset", "alphas", "cv", "grouped", "standardize", "intercept"
    )
    settings |= {"rois": list(rois), **study.settings("data", "zscore")}
    inputs = {"data": data_fingerprint(study, subject)}
    return Recipe("decompose", _roi_name(subject, rois), VERSION["decompose"], settings, inputs)


def decompose(study: Study, subject: str, rois: Sequence[str], compute: Compute) -> Artefact:
    """Decompose the training trials of some regions: file ``decomposition.safetensors``, which
    workers map.
    """
    work = partial(_decompose_part, study=study, subject=subject, rois=tuple(rois))
    artefact = make(study, decompose_recipe(study, subject, rois), 1, work, compute)
    if LEFT_OUT in artefact.manifest["facts"]:
        raise NoDataError(artefact.manifest["facts"][LEFT_OUT])
    return artefact


def _decompose_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, rois: tuple[str, ...]
) -> None:
    with artefact.part(index) as part:
        with without_warnings(rois not in (study.decode.z.rois, study.decode.c.rois)):
            X = responses(study, subject, rois)
        parts = decoding.decompose(study, dataset(study, subject), X)
        part.file("decomposition.safetensors", partial(ridge.save, parts))


def decode_recipe(
    study: Study, subject: str, feature: str, source: str = BRAIN, rois: Sequence[str] = ()
) -> Recipe:
    """What predicted features are made from; `rois` in place of the study's own answers "which part
    knows it?".
    """
    own = getattr(study.decode, feature).rois
    rois = (
        () if tuple(rois) == own else tuple(rois)
    )  # the study's own regions are one artefact, whoever asks
    settings = study.settings(
        "decode",
        "preset",
        "alphas",
        "cv",
        "grouped",
        "standardize",
        "intercept",
        "scoring",
        "leave_out",
    )
    settings |= {"rois": list(rois or own), **study.settings("data", "zscore")}
    if source == SHUFFLED:
        settings |= {"shuffled": study.seed}
    name = _roi_name(f"{subject}-{feature}" + ("-shuffled" if source == SHUFFLED else ""), rois)
    inputs = {
        "features": extract_recipe(study, subject, feature).hash,
        "data": data_fingerprint(study, subject),
    }
    return Recipe("decode", name, VERSION["decode"], settings, inputs)


def decode(
    study: Study,
    subject: str,
    feature: str,
    compute: Compute,
    source: str = BRAIN,
    rois: Sequence[str] = (),
) -> Artefact:
    """Predict features from brain activity with ridge regression (paper, section C).

    Arrays: `prediction` (n_items, d), `best_alphas` (d,), `r` (d,), the correlation over items
    between predicted and true features, and `ceiling` (d,), what r would be if only the scans were
    noisy. Rows are those of :func:`items`. With `source` "shuffled" the pairing of brain and
    picture is broken in the training data: the control that must fail.
    """
    recipe = decode_recipe(study, subject, feature, source, rois)
    chosen = rois or getattr(study.decode, feature).rois
    n = len(items(study, dataset(study, subject)))
    if not Store(study.root).artefact(recipe).done:
        betas(
            study, subject, chosen, compute
        )  # first, so that a region is refused before anything is written
    features = extract(study, subject, feature, compute)
    if study.decode.leave_out != "run" and not Store(study.root).artefact(recipe).done:
        decompose(study, subject, chosen, compute)
    width = features.array("features").shape[1]

    def prepare(artefact: Artefact) -> None:
        block = min(TARGETS_PER_PART, width)
        artefact.create_array("prediction", (n, width), "float32", (n, block))
        for name in ("best_alphas", "r", "ceiling"):
            artefact.create_array(name, (width,), "float64", (block,))

    work = partial(
        _decode_part, study=study, subject=subject, feature=feature, source=source, rois=tuple(rois)
    )
    return make(study, recipe, part_count(width, TARGETS_PER_PART), work, compute, prepare)


@contextmanager
def without_warnings(when: bool = True) -> Iterator[None]:
    """Keep quiet where warnings say nothing new: controls that must fail, and regions that are
    compared.
    """
    with warnings.catch_warnings():
        if when:
            warnings.simplefilter("ignore", UserWarning)
        yield


def _decode_part(
    artefact: Artefact,
    index: int,
    *,
    study: Study,
    subject: str,
    feature: str,
    source: str,
    rois: tuple[str, ...],
) -> None:
    data = dataset(study, subject)
    wanted = items(study, dataset(study, subject))
    features = Store(study.root).artefact(extract_recipe(study, subject, feature)).array("features")
    columns = part_slice(index, TARGETS_PER_PART, features.shape[1])
    Y = np.asarray(features[:, columns], np.float32)
    chosen = rois or getattr(study.decode, feature).rois
    parts = None
    truth = Y[np.searchsorted(image_ids(data), wanted["image"].to_numpy())]
    with artefact.part(index) as part:
        if study.decode.leave_out != "run":
            decomposed = Store(study.root).artefact(decompose_recipe(study, subject, chosen))
            parts = ridge.load(decomposed.file("decomposition.safetensors"))
        with without_warnings(
            bool(rois) or source == SHUFFLED or parts is not None
        ):  # the decomposition said it
            X = responses(study, subject, chosen)
        with without_warnings(bool(rois) or source == SHUFFLED):
            found = predict(study, data, X, Y, source == SHUFFLED, parts)
        part.array("prediction", (slice(0, len(wanted)), columns), found.prediction)
        part.array("best_alphas", columns, found.alphas)
        part.array("ceiling", columns, found.ceiling)
        part.array("r", columns, correlation(truth, found.prediction, axis=0))


# Reconstruct: z, c -> pictures


def reconstruct_recipe(study: Study, subject: str, mode: str, source: str = BRAIN) -> Recipe:
    """What reconstructions are made from."""
    settings = {"mode": mode, "seed": study.seed, **study.settings("model", "latent_size")}
    settings |= study.settings("reconstruct", "sampler")
    if mode != "z":  # z alone is decoded without drawing any noise
        settings |= study.settings(
            "reconstruct", "samples", "strength", "steps", "guidance", "same_noise"
        )
    if mode == "zc":
        settings |= study.settings("model", "latent")
    inputs = {"model": model_fingerprint(study.model.name)}
    for feature in MODE_FEATURES[mode]:
        if source in (BRAIN, SHUFFLED):
            inputs[feature] = decode_recipe(study, subject, feature, source).hash
        else:
            settings |= study.settings("decode", "leave_out")  # it says which rows there are
            inputs[feature] = extract_recipe(study, subject, feature).hash
    if source in (MEAN, CATEGORY):
        settings["source"], inputs["data"] = source, data_fingerprint(study, subject)
    name = f"{subject}-{mode}" + ("" if source == BRAIN else f"-{source}")
    return Recipe("reconstruct", name, VERSION["reconstruct"], settings, inputs)


def reconstruct(
    study: Study, subject: str, mode: str, compute: Compute, source: str = BRAIN
) -> Artefact:
    """Make pictures from decoded features (paper, section C): files ``pictures/item00000_0.png``
    (item, sample).

    Other sources are baselines: "shuffled" (a decoder that was told wrong pictures), "true" (the
    pictures' own features), "mean" (of the training trials, for every item), "category" (mode c:
    names of the things as the prompt).
    """
    if source == CATEGORY and mode != "c":
        raise PhospheneError(
            f"source 'category': found mode {mode!r}, expected 'c'; names say nothing about z."
        )
    for feature in MODE_FEATURES[mode]:
        if source in (BRAIN, SHUFFLED):
            decode(study, subject, feature, compute, source)
        else:
            extract(study, subject, feature, compute)
    n = len(items(study, dataset(study, subject)))
    work = partial(
        _reconstruct_part, study=study, subject=subject, mode=mode, source=source, compute=compute
    )
    return make(
        study,
        reconstruct_recipe(study, subject, mode, source),
        part_count(n, ITEMS_PER_PART),
        work,
        compute,
    )


def _features(study: Study, subject: str, feature: str, source: str, rows: slice) -> Rows:
    """Rows of the features that a reconstruction starts from."""
    if source in (BRAIN, SHUFFLED):
        decoded = Store(study.root).artefact(decode_recipe(study, subject, feature, source))
        return np.asarray(decoded.array("prediction")[rows], np.float32)
    if source == MEAN:
        return _mean_features(study, str(study.root), subject, feature)[rows]
    data = dataset(study, subject)
    true = Store(study.root).artefact(extract_recipe(study, subject, feature))
    wanted = np.searchsorted(image_ids(data), items(study, data)["image"].to_numpy()[rows])
    return np.asarray(true.array("features").oindex[wanted], np.float32)


@cache
def _mean_features(study: Study, root: str, subject: str, feature: str) -> Rows:
    """Rows that know nothing, for all items; a process reads all features once for them (`root` is
    part of the key).
    """
    true = Store(root).artefact(extract_recipe(study, subject, feature))
    return decoding.mean_features(study, dataset(study, subject), true.array("features"))


def category_context(
    model: diffusion.LatentDiffusion, data: Dataset, images: Sequence[int]
) -> Rows:
    """Context of the names of the things in pictures as one prompt, largest first, each once: "cat,
    house".
    """
    return model.text_to_context(
        [[", ".join(dict.fromkeys(found))] for found in data.categories(images)]
    )


def _reconstruct_part(
    artefact: Artefact,
    index: int,
    *,
    study: Study,
    subject: str,
    mode: str,
    source: str,
    compute: Compute,
) -> None:
    model = load_model(study.model.name, compute.device)
    sampler = study.reconstruct.sampler
    wanted = items(study, dataset(study, subject))
    rows = part_slice(index, ITEMS_PER_PART, len(wanted))
    images = wanted["image"].to_numpy()[rows]
    keys = [
        (subject, int(image), int(run)) for image, run in wanted[["image", "run"]].to_numpy()[rows]
    ]
    z = None
    with artefact.part(index) as part:
        if "z" in MODE_FEATURES[mode]:
            coarse = model.latent_to_image(_features(study, subject, "z", source, rows), sampler)

        def write(made: Callable[[], NDArray[np.uint8]], drawn: Sequence[tuple[int, int]]) -> None:
            for (k, sample), picture in zip(drawn, made(), strict=True):
                name = f"pictures/item{rows.start + k:05d}_{sample}.png"
                _write_picture(part, name, picture, artefact.recipe, int(images[k]))

        if mode == "z":
            write(
                lambda: diffusion.resize(coarse, model.size), [(k, 0) for k in range(len(images))]
            )
            return
        if mode == "zc":
            larger = diffusion.resize(coarse, model.size, Image.Resampling.BICUBIC)
            z = model.image_to_latent(
                larger, sample_seeds=latent_seeds(study, keys, study.reconstruct.same_noise)
            )
        if source == CATEGORY:
            c = category_context(model, dataset(study, subject), images.tolist())
        else:
            c = _features(study, subject, "c", source, rows)
        _sample(model, study, z, c, keys, compute, write)


def latent_seeds(
    study: Study, keys: Sequence[tuple[str | int, ...]], same: bool = False
) -> list[int] | None:
    """Seeds of samples of the autoencoder's posterior, one per key, or `same` for all; None where
    its mean is taken.
    """
    if study.model.latent == "mean":
        return None
    return [int(rng(study.seed, *(() if same else key), "latent").integers(2**62)) for key in keys]


def noise_seeds(study: Study, keys: Sequence[tuple[str | int, ...]], same: bool) -> list[int]:
    """Seeds of the noise that denoising starts from.

    Parameters
    ----------
    study : Study
    keys : sequence of tuple
        One per picture that is made: subject, image, run, sample.
    same : bool
        Sample k of all images starts from the same noise, as in the paper's released code, which
        seeds each image anew.
    """
    return [
        int(rng(study.seed, *(("noise", key[-1]) if same else key)).integers(2**62)) for key in keys
    ]


def _sample(
    model: diffusion.LatentDiffusion,
    study: Study,
    z: Rows | None,
    c: Rows,
    keys: list[tuple[str, int, int]],
    compute: Compute,
    write: Callable[..., None],
) -> None:
    """Draw all samples of some items, known by their `keys`, and write each batch while the next
    one is made.
    """
    settings = study.reconstruct
    wanted = [(k, s) for k in range(len(c)) for s in range(settings.samples)]
    if compute.compile:
        model.compile()
    batch = -(
        -len(wanted) // -(-len(wanted) // model.batch(compute.batch))
    )  # as many batches, but of equal sizes
    with ThreadPoolExecutor(1) as writer:
        writing: list[Future[None]] = []
        for start in range(0, len(wanted), batch):
            some = wanted[start : start + batch]
            index = [k for k, _ in some]
            seeds = noise_seeds(study, [(*keys[k], s) for k, s in some], settings.same_noise)
            made = model.denoise_later(
                None if z is None else z[index],
                c[index],
                seeds=seeds,
                sampler=settings.sampler,
                strength=settings.strength,
                steps=settings.steps,
                guidance=settings.guidance,
            )
            for before in writing:
                before.result()  # one batch waits at most; an error ends the part
            writing = [writer.submit(write, made, some)]
        for last in writing:
            last.result()


def _write_picture(
    part: Part, name: str, picture: NDArray[np.uint8], recipe: Recipe, image: int
) -> None:
    """Write a PNG that carries what it was made from."""
    about = PngInfo()
    stream = io.BytesIO()
    about.add_text(
        "phosphene",
        json.dumps({"recipe": json.loads(recipe.canonical), "hash": recipe.hash, "image": image}),
    )
    Image.fromarray(picture).save(stream, "PNG", pnginfo=about)
    part.file(name, stream.getvalue())


def pictures(
    artefact: Artefact, rows: Sequence[int], samples: int | None = None
) -> NDArray[np.uint8]:
    """Read some items' pictures, uint8 (n_rows, n_samples, height, width, 3); by default all
    samples.
    """
    count = samples or len(list((artefact.path / "pictures").glob(f"item{rows[0]:05d}_*.png")))
    names = [[f"pictures/item{row:05d}_{sample}.png" for sample in range(count)] for row in rows]
    return np.stack([np.stack([opened(artefact.file(name)) for name in item]) for item in names])
