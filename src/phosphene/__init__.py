"""phosphene: from brain activity to pictures, and from diffusion models to explanations of visual
cortex.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError("phosphene runs on Linux and macOS; on Windows install it within WSL.")

if TYPE_CHECKING:
    from phosphene.api import (
        audit,
        betas,
        comparisons,
        decode,
        encode,
        evaluate,
        extract,
        measures,
        reconstruct,
        report,
        score,
    )
    from phosphene.data import open_dataset
    from phosphene.errors import PhospheneError
    from phosphene.models.diffusion.model import LatentDiffusion
    from phosphene.numerics.identification import two_way_identification
    from phosphene.numerics.ridge import BandedRidgeCV, RidgeCV
    from phosphene.seeds import rng
    from phosphene.study import Compute, Study

__version__ = "0.1.0"

# Names are looked up when they are first used, so that `import phosphene` does not wait for torch.
_HOME = {
    "Study": "study",
    "Compute": "study",
    "rng": "seeds",
    "PhospheneError": "errors",
    "open_dataset": "data",
    "LatentDiffusion": "models.diffusion.model",
    "RidgeCV": "numerics.ridge",
    "BandedRidgeCV": "numerics.ridge",
    "two_way_identification": "numerics.identification",
    "betas": "api",
    "extract": "api",
    "decode": "api",
    "reconstruct": "api",
    "evaluate": "api",
    "measures": "api",
    "comparisons": "api",
    "audit": "api",
    "encode": "api",
    "report": "api",
    "score": "api",
}
__all__ = [
    "BandedRidgeCV",
    "Compute",
    "LatentDiffusion",
    "PhospheneError",
    "RidgeCV",
    "Study",
    "audit",
    "betas",
    "comparisons",
    "decode",
    "encode",
    "evaluate",
    "extract",
    "measures",
    "open_dataset",
    "reconstruct",
    "report",
    "rng",
    "score",
    "two_way_identification",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'phosphene' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"phosphene.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
