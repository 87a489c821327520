"""What the steps share: the data and models of a study, opened once per command and process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import disk
from phosphene.data import Dataset, open_dataset, trials
from phosphene.data.sources import source
from phosphene.errors import PhospheneError
from phosphene.pipeline.caches import cached
from phosphene.pipeline.step import Key, Step
from phosphene.study import Data, Study

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.models.diffusion.configuration import Configuration
    from phosphene.models.diffusion.model import LatentDiffusion


@dataclass(frozen=True, eq=False)
class SubjectStep(Step):
    """A step about one subject."""

    subject: str

    @property
    def data(self) -> Dataset:
        """The subject's data."""
        return dataset(self.study, self.subject)

    def key(self, part: str, names: Sequence[str] = ()) -> Key:
        """The key of one part of the data, such as "images" or the regions of these names."""
        return data_key(self.study, self.subject, part, names)

    @property
    def size(self) -> dict[str, int]:
        """The side of pictures of the model, which the autoencoder's files do not tell."""
        return {"size": configuration(self.study.model.name).size}

    def network(self, name: str) -> Key:
        """The key of one network of the diffusion model: "vae", "unet", "text_encoder",
        "scheduler".
        """
        return network_key(self.study.model.name, name)


@cached
def _open(kind: str, root: str, subject: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return open_dataset(kind, root, subject, **dict(options))


@cached
def _data_key(
    place: tuple[str, str, str, tuple[tuple[str, Any], ...]], part: str, names: tuple[str, ...]
) -> Key:
    return Key(_open(*place).key(part, names))


def data_key(study: Study, subject: str, part: str, names: Sequence[str] = ()) -> Key:
    """The key of one part of a subject's data (:meth:`phosphene.data.dataset.Dataset.key`)."""
    return _data_key(_place(study, subject), part, tuple(names))


def _place(study: Study, subject: str) -> tuple[str, str, str, tuple[tuple[str, Any], ...]]:
    """Where a subject's data lie, simulated first when the study is a demo and its folder is not
    there yet.
    """
    data = study.data
    root = study.data_root
    if data.simulate.enabled:
        _simulate(root, data, study.seed)
    return data.kind, str(root), subject, _options(data)


def data_options(study: Study) -> dict[str, Any]:
    """Options of :func:`phosphene.data.open_dataset` for this kind of data."""
    return dict(_options(study.data))


@lru_cache  # it reads no file
def _options(data: Data) -> tuple[tuple[str, Any], ...]:
    return tuple((name, getattr(data, name)) for name in source(data.kind).options)


@cached
def _simulate(root: Path, data: Data, seed: int) -> None:
    """Write the simulated data, or check that those on disk are the ones that the study asks
    for.
    """
    simulated = data.simulate
    simulated_as = {
        f.name: getattr(simulated, f.name) for f in fields(simulated) if f.name != "enabled"
    }
    marker = root / "SIMULATED.json"
    if not root.exists():
        from phosphene.data.simulated.simulate import simulate

        simulate(root, subjects=data.subjects, seed=seed, **simulated_as)
    elif marker.exists():
        written = disk.parsed(marker.read_bytes())
        if not isinstance(written, dict):
            raise PhospheneError(
                f"{marker}: is damaged; delete {root}, and the data are simulated again."
            )
        for name, value in simulated_as.items():
            if written.get(name) != value:
                raise PhospheneError(
                    f"{root}: found data simulated with {name} = {written.get(name)}, expected "
                    f"data.simulate.{name} = "
                    f"{value}; set data.root to another folder, or delete this one."
                )


def dataset(study: Study, subject: str) -> Dataset:
    """Open one subject's data; a process opens them once per command."""
    return _open(*_place(study, subject))


@cached
def configuration(name: str) -> Configuration:
    """Read a diffusion model's configuration; a process reads it once per command."""
    from phosphene.models.diffusion.configuration import Configuration

    return Configuration.of(name)


def load_model(name: str, device: str) -> LatentDiffusion:
    """Load a diffusion model; a process loads it once, and again when its files have changed."""
    from phosphene.models.diffusion.sources import NETWORKS

    keys = tuple(network_key(name, network).hash for network in NETWORKS)
    return _load_model(name, device, keys)


@lru_cache(maxsize=4)
def _load_model(name: str, device: str, _keys: tuple[str, ...]) -> LatentDiffusion:
    from phosphene.models.diffusion.model import LatentDiffusion

    return LatentDiffusion.load(name, device)


@cached
def network_key(name: str, network: str) -> Key:
    """The key of one network of a diffusion model."""
    from phosphene.models.diffusion.sources import network_key

    return Key(network_key(name, network))


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
