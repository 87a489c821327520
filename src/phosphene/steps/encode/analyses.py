"""The analyses of a study: the steps of all their models, and reading what they found."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from phosphene.encoding import models
from phosphene.encoding.models import Model, Named
from phosphene.pipeline.step import Step
from phosphene.steps.betas import voxel_table
from phosphene.steps.encode.contrast import CONTRAST, Contrast
from phosphene.steps.encode.factors import denoised
from phosphene.steps.encode.maps import maps
from phosphene.steps.encode.models import Encode
from phosphene.steps.encode.statistics import Statistics
from phosphene.steps.subject import configuration
from phosphene.study import Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

PREFERENCES = [
    "a",
    "b",
    "atlas",
    "region",
    "n_voxels",
    "difference",
    "ci_low",
    "ci_high",
    "better_a",
    "better_b",
]


def model_steps(study: Study, subject: str, models: Named) -> list[Step]:
    """The results of some models: each fitted, with its statistics, contrasts and, where the study
    asks for it, repetitions with other noise.
    """
    fitted = list(dict.fromkeys(model for _, model in models))
    steps: list[Step] = [Encode(study, subject, model) for model in fitted]
    steps += [Statistics(study, subject, model) for model in fitted]
    steps += [Contrast(study, subject, a, b) for a, b in pairs(models)]
    steps += [
        Encode(study.replace("seed", seed), subject, model)
        for model, seed in reseeded(study, models)
    ]
    return steps


def regions(study: Study, subject: str, models: Named) -> pd.DataFrame:
    """Read how well every model predicts every part of the brain.

    Returns
    -------
    DataFrame
        analysis, model and the columns of the table `regions` of
        :class:`phosphene.steps.encode.statistics.Statistics`; only of models whose statistics are
        finished.
    """
    import pandas as pd

    tables = []
    first = ["analysis", "model", "atlas", "region"]
    for analysis, model in models:
        artefact = Statistics(study, subject, model).artefact
        if artefact.seems_done:
            tables.append(artefact.table("regions").assign(analysis=analysis, model=str(model)))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=first)
    return table[[*first, *table.columns.drop(first)]]


def differences(study: Study, subject: str, a: Model, b: Model) -> pd.DataFrame:
    """Read a finished contrast.

    Returns
    -------
    DataFrame
        One row per voxel: x, y, z and labels, difference, ci_low, ci_high, p, q (Benjamini-Hochberg
        over all voxels).
    """
    import numpy as np

    from phosphene.numerics import stats

    step = Contrast(study, subject, a, b)
    table = voxel_table(step.betas)
    artefact = step.artefact
    for name in CONTRAST:
        table[name] = np.asarray(artefact.array(name)[:], np.float64)
    table["q"] = stats.fdr_bh(table["p"].to_numpy())
    return table


def permuted_p(study: Study, subject: str, model: Model) -> NDArray[np.float64]:
    """Read p of finished statistics, one-sided, from permuted images, (n_voxels,)."""
    import numpy as np

    artefact = Statistics(study, subject, model).artefact
    return np.asarray(artefact.array("p_permuted")[:], np.float64)


def preferences(study: Study, subject: str, models: Named) -> pd.DataFrame:
    """Say for every region which of two models predicts it better; of all pairs of these models
    that are contrasted.

    Returns
    -------
    DataFrame
        a, b, atlas, region, n_voxels, difference (of the mean r), ci_low, ci_high (95 %, paired
        bootstrap over images), better_a, better_b (shares of voxels with q < 0.05).
    """
    import numpy as np
    import pandas as pd

    from phosphene.encoding.regions import labelled

    rows = []
    for a, b in pairs(models):
        table = differences(study, subject, a, b)
        drawn_a, drawn_b = (
            Statistics(study, subject, model).artefact.table("draws") for model in (a, b)
        )
        clear = table["q"] < 0.05
        for atlas, labels in labelled(table, study.encode.atlases):
            for region in sorted(set(labels) - {""}):
                some = (labels == region) & table["difference"].notna()
                column = f"{atlas}/{region}"
                low, high = np.nanquantile(drawn_a[column] - drawn_b[column], [0.025, 0.975])
                difference = table["difference"][some]
                rows.append(
                    {
                        "a": str(a),
                        "b": str(b),
                        "atlas": atlas,
                        "region": region,
                        "n_voxels": int(some.sum()),
                        "difference": difference.mean(),
                        "ci_low": low,
                        "ci_high": high,
                        "better_a": float((clear[some] & (difference > 0)).mean()),
                        "better_b": float((clear[some] & (difference < 0)).mean()),
                    }
                )
    return pd.DataFrame(rows, columns=PREFERENCES)


def pairs(models: Named) -> list[tuple[Model, Model]]:
    """Which models are contrasted: those that predict alone and side by side, z, c, zc and the
    controls.
    """
    alone = [model for analysis, model in models if analysis in ("features", "asked")]
    return list(combinations(dict.fromkeys(alone), 2))


def agreement(study: Study, subject: str, models: Named) -> pd.DataFrame:
    """Compare maps of r with those of the same models under other noise, `encode.seeds` (paper,
    section E).

    Returns
    -------
    DataFrame
        model, seed, n_voxels (q < 0.05 with the study's own seed), correlation over these voxels,
        difference (mean of the absolute differences of r). Empty where no other seeds were asked
        for.
    """
    import numpy as np
    import pandas as pd

    rows = []
    for model, seed in reseeded(study, models):
        own = maps(study, subject, model)
        other = maps(study.replace("seed", seed), subject, model)
        some = (own["q"] < 0.05) & other["r"].notna()
        r = own["r"][some]
        again = other["r"][some]
        rows.append(
            {
                "model": str(model),
                "seed": seed,
                "n_voxels": int(some.sum()),
                "correlation": float(np.corrcoef(r, again)[0, 1])
                if some.sum() > 1
                else float("nan"),
                "difference": float((r - again).abs().mean()),
            }
        )
    return pd.DataFrame(rows, columns=["model", "seed", "n_voxels", "correlation", "difference"])


def reseeded(study: Study, models: Named) -> list[tuple[Model, int]]:
    """Models to be fitted again with other noise: those of the analysis "features" that have
    any.
    """
    noisy = [
        m
        for analysis, m in models
        if analysis == "features" and any(s.strength is not None for s in m.spaces)
    ]
    return [
        (model, seed)
        for model in dict.fromkeys(noisy)
        for seed in study.encode.seeds
        if seed != study.seed
    ]


def planned(study: Study) -> list[tuple[str, Model]]:
    """The models of the study's analyses (:func:`phosphene.encoding.models.planned`)."""
    settings = study.encode
    model = configuration(study.model.name)
    n_steps = model.n_steps(denoised(study).reconstruct.steps, max(settings.noise))
    return models.planned(
        settings.analyses,
        settings.noise,
        list(dict.fromkeys(max(1, round(share * n_steps)) for share in settings.steps)),
        settings.layers or model.layers,
        settings.controls,
        settings.same_noise,
    )
