"""What the stages read: data and models, opened once per process and known by their contents."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache
from typing import Any

import pandas as pd

from phosphene.data import Dataset, open_dataset, trials
from phosphene.data.sources import source
from phosphene.errors import PhospheneError
from phosphene.models.diffusion.configuration import Configuration
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.sources import fingerprint
from phosphene.study import Study


@cache
def _open(kind: str, root: str, subject: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return open_dataset(kind, root, subject, **dict(options))


@cache
def _fingerprint(kind: str, root: str, subject: str, options: tuple[tuple[str, Any], ...]) -> str:
    return _open(kind, root, subject, options).fingerprint()


def _place(study: Study, subject: str) -> tuple[str, str, str, tuple[tuple[str, Any], ...]]:
    """Where a subject's data lie, simulated first when the study is a demo and its folder is not
    there yet.
    """
    data = study.data
    root = study.data_root
    if data.simulate.enabled:
        _simulate(study)
    return data.kind, str(root), subject, tuple(data_options(study).items())


def data_options(study: Study) -> dict[str, Any]:
    """Options of :func:`phosphene.data.open_dataset` for this kind of data."""
    return {name: getattr(study.data, name) for name in source(study.data.kind).options}


def _simulate(study: Study) -> None:
    """Write the simulated data, or check that those on disk are the ones that the study asks
    for.
    """
    root = study.data_root
    simulated = study.data.simulate
    asked = {f.name: getattr(simulated, f.name) for f in fields(simulated) if f.name != "enabled"}
    marker = root / "SIMULATED.json"
    if not root.exists():
        from phosphene.data.simulated.simulate import simulate

        simulate(root, subjects=study.data.subjects, seed=study.seed, **asked)
    elif marker.exists():
        found = json.loads(marker.read_text())
        for name, value in asked.items():
            if found[name] != value:
                raise PhospheneError(
                    f"{root}: found data simulated with {name} = {found[name]}, expected "
                    f"data.simulate.{name} = "
                    f"{value}; set data.root to another folder, or delete this one."
                )


def dataset(study: Study, subject: str) -> Dataset:
    """Open one subject's data; a process opens them once."""
    return _open(*_place(study, subject))


def data_fingerprint(study: Study, subject: str) -> str:
    """Hash of one subject's data, the same wherever the files lie."""
    return _fingerprint(*_place(study, subject))


@cache
def configuration(name: str) -> Configuration:
    """Read a diffusion model's configuration; a process reads it once."""
    return Configuration.of(name)


@cache
def load_model(name: str, device: str) -> LatentDiffusion:
    """Load a diffusion model; a process loads it once."""
    return LatentDiffusion.load(name, device)


@cache
def model_fingerprint(name: str) -> str:
    """Hash of a diffusion model's files."""
    return fingerprint(name)


def items(study: Study, data: Dataset) -> pd.DataFrame:
    """List what is decoded: one row per test image, or per row of ``data.trials`` when runs are
    left out in turn (:func:`phosphene.data.trials.items`).
    """
    by_trial = study.decode.leave_out == "run"
    if by_trial and data.photographs:
        raise PhospheneError(
            "decode.leave_out: found 'run' for data with test pictures of their own, whose "
            "repeats would be in other runs; expected ''."
        )
    found = trials.items(data, by_trial)
    if found.empty:
        raise PhospheneError(
            f"{study.data_root}: found no test trials for {data.subject}, expected images of the "
            "shared set; use more sessions."
        )
    return found
