"""What a result was made with: versions, platform, commit and memory."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "phosphene",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "zarr",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "scikit-learn",
    "scikit-image",
)


def peak_memory_mb() -> float:
    """The most memory that this process has had so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


@lru_cache
def versions() -> dict[str, str]:
    """Versions of the libraries that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def environment() -> dict[str, Any]:
    """Versions and, when phosphene runs from a git checkout, its commit."""
    here = Path(__file__)
    commit = ""
    try:
        git = ["git", "-C", str(here.parent)]
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", here.name],
            check=True,
            capture_output=True,
            timeout=10,
        )
        describe = [*git, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        commit = subprocess.run(
            describe, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # installed without git, or not a checkout
    machine = platform.platform(aliased=True)
    return {
        "python": platform.python_version(),
        "platform": machine,
        "packages": versions(),
        "commit": commit,
    }
