"""Which way round pictures and reconstructions are compared in two-way identification."""

from __future__ import annotations

from typing import Literal

Direction = Literal["takagi2023", "braindiffuser"]
