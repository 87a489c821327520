"""Where the repository is, and the environment of processes that tests start."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src"
SHARED = REPOSITORY.parent / "shared"
# no test touches the user's own
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="phosphene-cache-")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
