"""The stage that scores pictures: which seen picture does each reconstruction belong to, and what
does it show?

Tables, one row per question: ``scores`` (the study's presets of measures, per way of choosing among
the samples) and ``per_image``; ``names`` (does the judge see the right category?); ``features`` and
``rois`` (how well the brain, and each part of it, predicts z and c).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data import Dataset
from phosphene.data.dataset import Photographs
from phosphene.data.trials import image_ids
from phosphene.errors import NoDataError, without_warnings
from phosphene.methods import BRAIN, MODE_FEATURES, SHUFFLED, TRUE, condition_name
from phosphene.metrics.presets import KEYS, PRESETS
from phosphene.models.judge.labels import fingerprint
from phosphene.models.perceptual.stamps import contents, missing
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Artefact, Part
from phosphene.seeds import rng
from phosphene.steps.conditions import compared_rois, conditions, features_of, is_optional_region
from phosphene.steps.decode import Decode
from phosphene.steps.decompose import reason_left_out
from phosphene.steps.reconstruct import Reconstruct
from phosphene.steps.subject import SubjectStep, configuration, items, load_model
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from phosphene.metrics.score import PictureScores
    from phosphene.models.preparing import Pictures

SCORING = 0.005  # seconds per picture, about


def measures_key(study: Study) -> Key:
    """The key of all that the study's measures depend on: their definitions, and the weights that
    are there.
    """
    metrics = [metric for name in study.evaluate.presets for metric in PRESETS[name].metrics]
    spaces = {metric.space for metric in metrics if metric.space is not None}
    known = [space for space in spaces if missing(space, study.weights) is None]
    weights = sorted(contents(space, study.weights) for space in known)
    parts = [fingerprint(), *map(repr, metrics), *weights]
    return Key(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest())


@dataclass(frozen=True, eq=False)
class Evaluate(SubjectStep):
    """Scores of all reconstructions of a subject.

    Tables: `scores`, `per_image`, `absent` (measures whose weights are not there), `names`,
    `features`, `rois`. Where a data set has no photographs to compare with, only the names are
    asked for.
    """

    stage: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 2
    sections: ClassVar[tuple[str, ...]] = ("evaluate",)

    @property
    def name(self) -> str:
        """The subject."""
        return self.subject

    def settings(self) -> dict[str, Any]:
        """Those of the scores."""
        return {**self.study.settings("evaluate"), "seed": self.study.seed}

    def reconstruct(self, mode: str, source: str) -> Reconstruct:
        """One kind of reconstruction."""
        return Reconstruct(self.study, self.subject, mode, source)

    def decode(self, feature: str, source: str = BRAIN, roi: str = "") -> Decode:
        """A feature decoded from the study's regions, or from one region."""
        return Decode(self.study, self.subject, feature, source, (roi,) if roi else ())

    def inputs(self) -> Mapping[str, Step | Key]:
        """Pictures, decoded features, and what they are compared with."""
        study = self.study
        inputs: dict[str, Step | Key] = {
            "measures": measures_key(study),
            "images": self.key("images"),
            "categories": self.key("categories"),
        }
        for mode, source in conditions(study):
            inputs[f"pictures-{mode}-{source}"] = self.reconstruct(mode, source)
        for feature in features_of(study):
            for source in _feature_sources(study):
                inputs[f"decoded-{feature}-{source}"] = self.decode(feature, source)
            for roi in compared_rois(study, self.data):
                inputs[f"decoded-{feature}-from-{roi}"] = self.decode(feature, roi=roi)
        return inputs

    def requires(self) -> Sequence[Step]:
        """The true features, which decoded ones are compared with."""
        return [self.decode(feature).extract for feature in features_of(self.study)]

    def check(self, compute: Compute) -> None:
        """Refuse a device that is not there."""
        from phosphene.models.diffusion.batching import own_device

        own_device(compute.device)

    def n_parts(self) -> int:
        """One for each kind of reconstruction, and one for decoded features."""
        return len(conditions(self.study)) + 1

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Score one kind of reconstruction, or the decoded features."""
        import pandas as pd

        study = self.study
        data = self.data
        labels = {"subject": self.subject}
        table = items(study, data)
        if index == len(conditions(study)):
            rows = _feature_rows(self, table)
            part.table("features", pd.DataFrame(rows).assign(**labels))
            part.table("rois", pd.DataFrame(_roi_rows(self)).assign(**labels))
            return
        mode, source = conditions(study)[index]
        made = reconstructed(study, self.subject, mode, source)
        labels |= {"mode": mode, "source": source}
        named = _name_row(study, data, table, made)
        part.table(f"names/{index}", pd.DataFrame([named]).assign(**labels))
        if data.photographs:
            chosen = decoded_choice(study, data, mode, source, compute)
            scores = score_made(study, data, made, chosen, compute.device)
            part.table(f"scores/{index}", scores.scores.assign(**labels))
            images = scores.per_image.assign(
                image=table["image"].to_numpy()[scores.per_image["item"]]
            )
            part.table(f"per_image/{index}", images.assign(**labels))
            absent = pd.DataFrame(
                list(scores.absent.items()), columns=["measure", "reason"], dtype=str
            )
            part.table(f"absent/{index}", absent.assign(**labels))

    def cost(self, rates: Rates) -> Cost:
        """Scoring every picture of every kind."""
        pictures = len(items(self.study, self.data)) * self.study.reconstruct.samples
        # pictures are held as bytes and as floats
        held = pictures * configuration(self.study.model.name).size ** 2 * 3 * 5 / 1e9
        seconds = len(conditions(self.study)) * pictures * SCORING
        return Cost(1, 0.0, 0.001, rates.gb + held, seconds)


# Pictures


def reconstructed(study: Study, subject: str, mode: str, source: str = BRAIN) -> list[Pictures]:
    """Open finished reconstructions: for every sample the pictures of all items, read one at a
    time.
    """
    from phosphene.metrics.image_files import Files

    step = Reconstruct(study, subject, mode, source)
    names = [
        [f"pictures/item{item:05d}_{sample}.png" for item in range(step.n_items)]
        for sample in range(step.samples)
    ]
    return [Files([step.artefact.file(name) for name in sample]) for sample in names]


def score_made(
    study: Study,
    data: Dataset,
    made: Sequence[Pictures],
    chosen: NDArray[np.int64] | None = None,
    device: str = "cpu",
) -> PictureScores:
    """Score pictures of the items of a study, made by whatever means, with the study's presets.

    Parameters
    ----------
    study : Study
    data : Dataset
    made : sequence of pictures
        For every sample the pictures of all items (rows as :func:`phosphene.steps.subject.items`).
    chosen : ndarray of int, shape (n_items,), optional
        Which sample the decoded features would choose (:func:`decoded_choice`).
    device : str
    """
    from phosphene.metrics.measures import Draws, Places
    from phosphene.metrics.score import score_pictures
    from phosphene.models.diffusion.batching import own_device

    draws = Draws(
        study.evaluate.bootstrap,
        study.evaluate.permutations,
        study.seed,
        (data.subject, "evaluate"),
    )
    places = Places(study.weights, study.root / "perceptual", own_device(device))
    seen = Photographs(data, items(study, data)["image"].tolist())
    return score_pictures(
        made, seen, study.evaluate.presets, chosen=chosen, draws=draws, places=places
    )


def decoded_choice(
    study: Study, data: Dataset, mode: str, source: str, compute: Compute
) -> NDArray[np.int64] | None:
    """Choose among the samples without looking at what was seen: whose latent is closest to the
    decoded one.

    None where no z was decoded or there is one sample only. The latent is correlated with the
    decoded z over its elements (Pearson).
    """
    import numpy as np

    made = reconstructed(study, data.subject, mode, source)
    if "z" not in MODE_FEATURES[mode] or source == TRUE or len(made) < 2:
        return None
    model = load_model(study.model.name, compute.device)
    decoded = Decode(study, data.subject, "z", source).artefact.array("prediction")
    r = np.empty((len(made[0]), len(made)))
    for rows in np.array_split(np.arange(len(r)), -(-len(r) // 48)):
        predicted = np.asarray(decoded[rows[0] : rows[-1] + 1], np.float64)
        for sample, pictures in enumerate(made):
            block = np.stack([pictures[k] for k in rows])
            latents = model.image_to_latent(block, study.model.latent_size).astype(np.float64)
            r[rows, sample] = [
                np.corrcoef(a, b)[0, 1] for a, b in zip(latents, predicted, strict=True)
            ]
    return np.asarray(np.nan_to_num(r, nan=-2.0).argmax(axis=1))


def _name_row(
    study: Study, data: Dataset, table: pd.DataFrame, made: Sequence[Pictures]
) -> dict[str, float]:
    """How often the judge names the right category."""
    import numpy as np

    from phosphene.metrics.decoded import named_categories

    # rows of one run are not independent: where runs were left out in turn, whole runs are
    # resampled
    groups = table["run"] if study.decode.leave_out == "run" else table.index
    return named_categories(
        made,
        data.categories(table["image"].to_numpy()),
        np.asarray(groups),
        n_bootstrap=study.evaluate.bootstrap,
        rng=rng(study.seed, "names"),
    )


# Features


def _feature_rows(step: Evaluate, table: pd.DataFrame) -> Iterator[dict[str, object]]:
    """How well z and c were decoded: correlation, its ceiling, identification and retrieval among
    the items.
    """
    import numpy as np

    from phosphene.metrics.decoded import identified_features

    study = step.study
    rows = np.searchsorted(image_ids(step.data), table["image"].to_numpy())
    for feature in features_of(study):
        for source in _feature_sources(study):
            decode = step.decode(feature, source)
            decoded = decode.artefact
            row: dict[str, object] = {
                "feature": feature,
                "source": source,
                "n": len(table),
                **_correlated(decoded),
            }
            if step.data.photographs:
                scores = identified_features(
                    np.asarray(decoded.array("prediction")[:]),
                    np.asarray(decode.extract.artefact.array("features").oindex[rows]),
                    n_bootstrap=study.evaluate.bootstrap,
                    n_permutations=study.evaluate.permutations,
                    rng=rng(study.seed, step.subject, "features", feature, source),
                )
                # one shuffled decoder is a random map of real activity, alike for all pictures:
                # permuting pictures cannot judge it
                row |= scores if source == BRAIN else scores | {"p": float("nan")}
            yield row


def _correlated(decoded: Artefact) -> dict[str, float]:
    import numpy as np

    from phosphene.metrics.decoded import correlated_features

    r, ceiling = (np.asarray(decoded.array(name)[:]) for name in ("r", "ceiling"))
    return correlated_features(r, ceiling)


def _roi_rows(step: Evaluate) -> Iterator[dict[str, object]]:
    """Mean over features of the correlation between predicted and true values, per part of the
    brain.
    """
    rois = compared_rois(step.study, step.data)
    for feature in features_of(step.study):
        for roi in rois:
            artefact = step.decode(feature, roi=roi).artefact
            if reason := reason_left_out(artefact):
                _warn_left_out(step, roi, reason)
                continue
            with without_warnings():
                n_voxels = len(step.data.voxels(roi))
            yield {"feature": feature, "roi": roi, **_correlated(artefact), "n_voxels": n_voxels}


def _warn_left_out(step: Evaluate, roi: str, reason: str) -> None:
    """Warn of a region without data that nobody chose; one that was chosen is an error."""
    if not is_optional_region(step.study, (roi,)):
        raise NoDataError(reason)
    warnings.warn(
        f"{step.subject}: region {roi!r} is left out of the comparison of regions: {reason}",
        stacklevel=2,
    )


def _feature_sources(study: Study) -> tuple[str, ...]:
    """What decoded features are compared: those of the brain, and of the shuffled one where the
    study has it.
    """
    return (BRAIN, SHUFFLED) if SHUFFLED in study.reconstruct.baselines else (BRAIN,)


# All subjects


def all_tables(study: Study, name: str) -> pd.DataFrame:
    """One table of all evaluated subjects; `condition` names the reconstruction for people. Empty
    where nothing was scored.
    """
    import pandas as pd

    artefacts = [Evaluate(study, subject).artefact for subject in study.data.subjects]
    tables = [artefact.table(name) for artefact in artefacts if (artefact.path / name).is_dir()]
    if not tables:
        return pd.DataFrame(columns=["subject", "condition"])
    table = pd.concat(tables, ignore_index=True)
    names = [
        condition_name(mode, source)
        for mode, source in zip(table["mode"], table["source"], strict=True)
    ]
    return table.assign(condition=names)


def _means_of_measures(images: pd.DataFrame) -> pd.DataFrame:
    """Mean over the identification measures of every preset and direction, image by image, where
    there are several.
    """
    keys = ["subject", "preset", "direction", "mode", "item"]
    shares = images[images["direction"].notna()]
    several = shares.groupby(["preset", "direction"])["metric"].transform("nunique") > 1
    means = shares[several].groupby(keys, sort=False, as_index=False)["value"].mean()
    return means.assign(metric="mean")


def comparisons(study: Study) -> pd.DataFrame:
    """Compare the modes of an evaluated study on the same images, subject by subject, measure by
    measure, and on the mean of the identification measures of a preset.

    Returns
    -------
    DataFrame
        subject, preset, metric ("mean" for the mean), direction and the columns of
        :func:`phosphene.numerics.stats.compare_methods`, whose corrections run over the pairs of
        modes of one measure; `a` is the mode that comes later in the study's settings.
    """
    import pandas as pd

    from phosphene.metrics.presets import own_selection
    from phosphene.numerics.stats import compare_methods

    images = all_tables(study, "per_image")
    rows = []
    if images.empty or len(study.reconstruct.modes) < 2:
        return pd.DataFrame(columns=["subject", *KEYS])
    images = own_selection(images[images["source"] == BRAIN])
    images = pd.concat([images, _means_of_measures(images)], ignore_index=True)
    for key, some in images.groupby(["subject", *KEYS], sort=False, dropna=False):
        values = some.pivot(index="item", columns="mode", values="value")[
            list(reversed(study.reconstruct.modes))
        ]
        found = compare_methods(
            {str(m): values[m].to_numpy() for m in values}, rng=rng(study.seed, "comparisons")
        )
        rows.append(found.assign(**dict(zip(["subject", *KEYS], key, strict=True))))
    return pd.concat(rows, ignore_index=True)
