"""Feature spaces in which pictures are compared, and the presets of measures that different groups
take in them.

``presets`` whose evaluation, exactly · ``extraction`` pictures through networks, in batches, kept
in a ``cache`` · ``preparing`` resizing and cropping as each preset does · ``networks`` and where
their ``weights`` lie · ``low_level`` PixCorr and SSIM, and spaces that need no weights · ``judge``
the network for drawn scenes.
"""

from phosphene.perceptual.extraction import features, missing, stamp
from phosphene.perceptual.judge import (
    CATEGORIES,
    COLOURS,
    JUDGE_FILE,
    PLACES,
    Judge,
    fingerprint,
    judge_labels,
    load_judge,
)
from phosphene.perceptual.low_level import pixcorr, ssim
from phosphene.perceptual.preparing import Pictures
from phosphene.perceptual.presets import PRESETS, Metric, Preparation, Preset, Resize, Space

__all__ = [
    "CATEGORIES",
    "COLOURS",
    "JUDGE_FILE",
    "PLACES",
    "PRESETS",
    "Judge",
    "Metric",
    "Pictures",
    "Preparation",
    "Preset",
    "Resize",
    "Space",
    "features",
    "fingerprint",
    "judge_labels",
    "load_judge",
    "missing",
    "pixcorr",
    "ssim",
    "stamp",
]
