"""What to compute: a study and all of its settings.

A study is a TOML file read into frozen dataclasses: the fields below are the settings, their types
are the checks and their defaults are the documentation. Results are named by the settings that
differ from their defaults, so a new setting whose default keeps the old behaviour leaves old
results valid.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.study.loading import build, read_study, unknown


def _number(default: float, low: float, high: float = float("inf")) -> Any:
    """A setting that must lie between `low` and `high`, both included."""
    return field(default=default, metadata={"low": low, "high": high})


def _filled(*default: str) -> Any:
    """A list that must not be empty."""
    return field(default=default, metadata={"filled": True})


def _folder() -> Any:
    """Where something lies: never hashed, because what lies there enters a recipe through its
    fingerprint.
    """
    return field(default="", metadata={"folder": True})


@dataclass(frozen=True)
class Simulate:
    """The known brain a demo looks through when `data.root` holds nothing yet."""

    enabled: bool = False
    images_shared: int = _number(100, 1)
    images_own: int = _number(800, 1)
    repeats: int = _number(3, 1)
    sessions: int = _number(9, 1)
    noise: float = _number(1.0, 0)
    nifti: bool = False


@dataclass(frozen=True)
class Data:
    """Which scans and photographs; `sessions` empty means all that are there, `split` and `pool`
    are LAION-fMRI's.
    """

    kind: Literal["nsd", "haxby", "arrays", "laion"] = "nsd"
    root: str = _folder()
    subjects: tuple[str, ...] = _filled("subj01")
    sessions: tuple[int, ...] = ()
    betas: str = "betas_fithrf_GLMdenoise_RR"
    resolution: str = "func1pt8mm"
    split: str = "tau"
    pool: str = ""
    zscore: Literal["session", "train", "none"] = "session"
    simulate: Simulate = Simulate()


@dataclass(frozen=True)
class Model:
    """The frozen diffusion model; photographs become z at a side of `latent_size` pixels, 0 is the
    model's own.

    `latent` is what of the autoencoder's posterior is taken: its mean, or a sample, as in the
    paper's released code.
    """

    name: str = "bundled"
    latent_size: int = _number(0, 0)
    latent: Literal["mean", "sample"] = "mean"


@dataclass(frozen=True)
class DecodeZ:
    """Brain -> picture latent z."""

    rois: tuple[str, ...] = _filled("early")


@dataclass(frozen=True)
class DecodeC:
    """Brain -> text context c."""

    rois: tuple[str, ...] = _filled("ventral")


@dataclass(frozen=True)
class Decode:
    """Ridge regression from voxels to features; `leave_out = "run"` tests every run once instead of
    a test split.

    Without `intercept` voxels are standardised once, over all training trials, nothing is centred
    within folds, and targets keep their mean, which predictions lack: the paper's released code
    does so. `scoring` chooses the penalty.
    """

    preset: Literal["default", "paper"] = "default"
    z: DecodeZ = DecodeZ()
    c: DecodeC = DecodeC()
    alphas: tuple[float, ...] = field(
        default=tuple(10.0 ** (k / 2) for k in range(13)),
        metadata={"filled": True, "above": 0},
    )
    cv: int = _number(5, 2)
    grouped: bool = True
    standardize: bool = True
    intercept: bool = True
    scoring: Literal["r2", "neg_mean_squared_error", "correlation"] = "r2"
    leave_out: Literal["", "run"] = ""


@dataclass(frozen=True)
class Reconstruct:
    """Features -> pictures; `strength` is the share of the noise schedule that is run.

    `sampler` "paper" noises z one step further than denoising starts and rounds grey levels down,
    as the paper's released code does; "consistent" is what the schedule says. With `same_noise`
    sample k of every picture starts from the same noise, as there; without it there is separate
    noise for each picture.
    """

    modes: tuple[Literal["z", "c", "zc"], ...] = _filled("z", "c", "zc")
    samples: int = _number(5, 1)
    strength: float = _number(0.8, 0, 1)
    steps: int = _number(50, 2, 500)
    guidance: float = _number(5.0, 0)
    sampler: Literal["consistent", "paper"] = "consistent"
    same_noise: bool = False
    baselines: tuple[Literal["shuffled", "true"], ...] = ("shuffled", "true")


@dataclass(frozen=True)
class Evaluate:
    """Pictures -> scores; `bootstrap` and `permutations` are numbers of draws.

    `presets` are whose measures are taken (:data:`phosphene.metrics.presets.PRESETS`).
    The headline is the first preset that has scores. `weights` is a folder with the weights of the
    networks that see; the usual caches are looked into as well. `rois` are the regions that are
    compared by how well z and c are decoded from each; empty: the streams where they are drawn,
    else all regions, and those of `decode`.
    """

    presets: tuple[Literal["scenes", "pixel", "takagi2023", "braindiffuser", "mindeye"], ...] = (
        _filled("scenes")
    )
    weights: str = _folder()
    rois: tuple[str, ...] = ()
    bootstrap: int = _number(2000, 1)
    permutations: int = _number(2000, 1)


@dataclass(frozen=True)
class Encode:
    """Features -> every voxel; `noise` are strengths, low to high, `steps` shares of the denoising
    steps that are made.

    `layers` empty means all of the model's U-Net; `controls` are further features, such as
    "c:category"; `mixes` is the number of shares tried between two feature spaces. Spaces are
    scaled as a whole: a penalty of n_trials halves them. With `same_noise` zc and layers of all
    pictures start from the same noise, so that a linear model can read what the text adds; `seeds`
    are other noise for them, to see that maps stay as they are. `atlases` are those that regions
    are taken from; `bootstrap` is the number of draws of test images; `permutations` 0 leaves p to
    the exact null; `denoising` is the number of steps of a whole schedule that zc and layers are
    taken from, 0 for `reconstruct.steps`.
    """

    rois: tuple[str, ...] = _filled("brain")
    analyses: tuple[Literal["features", "noise", "text", "steps", "layers"], ...] = _filled(
        "features", "noise", "text", "steps", "layers"
    )
    same_noise: bool = True
    components: int = _number(6400, 1)
    noise: tuple[float, ...] = field(
        default=(0.2, 0.5, 0.8), metadata={"filled": True, "low": 0, "high": 1}
    )
    steps: tuple[float, ...] = field(
        default=(0.1, 0.5, 1.0), metadata={"filled": True, "low": 0, "high": 1}
    )
    layers: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    alphas: tuple[float, ...] = field(
        default=tuple(10.0 ** (k / 2) for k in range(-2, 11)),
        metadata={"filled": True, "above": 0},
    )
    cv: int = _number(5, 2)
    mixes: int = _number(5, 1)
    seeds: tuple[int, ...] = field(default=(), metadata={"low": 0, "high": float("inf")})
    atlases: tuple[str, ...] = _filled(
        "streams", "prf-visualrois", "floc-faces", "floc-bodies", "floc-places", "floc-words"
    )
    bootstrap: int = _number(2000, 2)
    permutations: int = _number(0, 0)
    denoising: int = _number(0, 0, 500)


@dataclass(frozen=True)
class Rate:
    """Pictures -> people (docs/rating.md): `trials` are per method and rater, `methods` empty means
    all modes.

    `sample` is which of several samples is shown. A rater is left out with fewer than `least_catch`
    of the catch trials right, or more than `most_fast` of the answers quicker than `least_seconds`.
    `consent` is a text file seen from the study file, "" the built-in text, which has a paragraph
    for each of `organiser`, `contact`, `pay`, `retention`, `legal_basis` and `complaints` that is
    filled in; `database` any SQLAlchemy URL, "" a SQLite file beside the links.
    """

    methods: tuple[Literal["z", "c", "zc"], ...] = ()
    raters: int = _number(6, 1)
    trials: int = _number(100, 1)
    catch: int = _number(10, 0)
    repeats: int = _number(10, 0)
    sample: int = _number(0, 0)
    break_every: int = _number(60, 0)
    least_catch: float = _number(0.8, 0, 1)
    least_seconds: float = _number(0.3, 0)
    most_fast: float = _number(0.1, 0, 1)
    title: str = "Which picture is more alike?"
    contact: str = ""
    organiser: str = ""
    pay: str = ""
    retention: str = ""
    legal_basis: str = ""
    complaints: str = ""
    least_age: int = _number(18, 0)
    consent: str = _folder()
    database: str = _folder()


@dataclass(frozen=True)
class Study:
    """What to compute, frozen; `Study.load` reads one, `replace` makes another.

    `root` (where results go) and `folder` (where the study file lies) are places, not settings:
    never saved, never hashed, never compared.
    """

    name: str = "study"
    seed: int = _number(0, 0)
    data: Data = Data()
    model: Model = Model()
    decode: Decode = Decode()
    reconstruct: Reconstruct = Reconstruct()
    evaluate: Evaluate = Evaluate()
    encode: Encode = Encode()
    rate: Rate = Rate()
    root: Path = field(default=Path("runs"), compare=False, metadata={"place": True})
    folder: Path = field(default=Path(), compare=False, metadata={"place": True})

    @classmethod
    def load(cls, path: str | Path, root: str | Path | None = None) -> Study:
        """Read a study file.

        Parameters
        ----------
        path : path
        root : path, optional
            Where results are kept; by default the folder ``runs`` beside the file, as on the
            command line.

        Raises
        ------
        PhospheneError
            Names the file and the setting that is wrong.

        Examples
        --------
        >>> study = Study.load("mystudy/demo.toml")  # doctest: +SKIP
        """
        path = Path(path)
        root = path.parent / "runs" if root is None else root
        return cls.from_dict(read_study(path), root=root, folder=path.parent, source=str(path))

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        root: str | Path = "runs",
        folder: str | Path = ".",
        source: str = "",
    ) -> Study:
        """A study from nested tables; `source` (a file name) begins every error message."""
        try:
            places = {"root": Path(root).absolute(), "folder": Path(folder).absolute()}
            built = build(cls, values, places)
        except PhospheneError as error:
            raise PhospheneError(f"{source}: {error}" if source else str(error)) from None
        assert isinstance(built, Study)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", built.name):
            raise PhospheneError(
                f"{source or 'study'}: 'name' is {built.name!r}; it names folders, use letters, "
                "digits and . _ - only"
            )
        return built

    def to_dict(self) -> dict[str, Any]:
        """Every setting, defaults included, as plain nested tables (lists, no tuples)."""
        values: dict[str, Any] = _plain(asdict(self))
        return {key: value for key, value in values.items() if key not in ("root", "folder")}

    def save(self, path: str | Path) -> None:
        """Write every setting as TOML; `Study.load(path)` gives an equal study."""
        import tomlkit

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(tomlkit.dumps(self.to_dict()), encoding="utf-8")
        os.replace(temporary, path)

    def replace(self, key: str, value: Any) -> Study:
        """Another study, one setting changed: ``study.replace("decode.c.rois", ["ventral"])``."""
        values = self.to_dict()
        *tables, last = key.split(".")
        table = values
        for depth, name in enumerate(tables):
            if not isinstance(table.get(name), dict):
                raise PhospheneError(unknown(Study, key, ".".join(tables[:depth])))
            table = table[name]
        table[last] = value
        return Study.from_dict(values, root=self.root, folder=self.folder)

    def settings(self, section: str, *keys: str) -> dict[str, Any]:
        """The settings of one section that differ from their defaults: what a recipe's hash covers.

        Parameters
        ----------
        section
            "data", "model", "decode", "decode.z", "reconstruct", ...
        keys
            Only these settings of the section; all of them when none is given. Folders
            (`data.root`) are never among them: what lies there enters a recipe through its
            fingerprint.
        """
        part: Any = self
        for name in section.split("."):
            part = getattr(part, name)
        strange = set(keys) - {f.name for f in fields(part)}
        if strange:
            raise KeyError(f"no setting {sorted(strange)} in section {section!r}")
        chosen = {
            f.name
            for f in fields(part)
            if (not keys or f.name in keys) and not f.metadata.get("folder")
        }
        return {name: value for name, value in _differing(part).items() if name in chosen}

    @property
    def weights(self) -> Path | None:
        """`evaluate.weights` against the folder of the study file; None where it is not set."""
        return (
            self.folder / disk.expand_home(self.evaluate.weights) if self.evaluate.weights else None
        )

    @property
    def data_root(self) -> Path:
        """`data.root` against the folder of the study file; absolute paths stay, ``~`` is the home
        folder.
        """
        if not self.data.root:
            raise PhospheneError(
                f"study '{self.name}': 'data.root' is not set; give the folder that holds the data"
            )
        return self.folder / disk.expand_home(self.data.root)


def _plain(value: Any) -> Any:
    """Tuples to lists, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _differing(part: Any) -> dict[str, Any]:
    """The settings of a dataclass that differ from its defaults, nested tables likewise."""
    found = {}
    for f in fields(part):
        value = getattr(part, f.name)
        value = _differing(value) if is_dataclass(value) else value
        if value != ({} if is_dataclass(f.default) else f.default):
            found[f.name] = _plain(value)
    return found
