"""Recipe -> artefact: a folder named by its recipe, atomic, resumable, self-describing.

An artefact is made in parts. A part writes its files, each under a temporary name and then moved
into place, and last its marker ``parts/<i>.json`` with the size and SHA-256 of every file: from
then on the part is done. When all parts are done ``manifest.json`` is written, which takes over
what the markers said: from then on the artefact is done. A process may be killed between any two of
these steps; the next one does only what no marker vouches for. Two processes at once do the same
work twice and move identical files over each other.

What :func:`phosphene.pipeline.graph.make` does for every step comes down to::

    artefact = Store(root).artefact(Recipe("extract", "subj01-z", 1, settings, {"images": key}))
    if not artefact.done:
        artefact.create_array("z", shape=(n, d), dtype="float32", chunks=(64, d))
        for i in artefact.missing(n_parts):
            with artefact.part(i) as part:
                part.array("z", slice(64 * i, 64 * (i + 1)), made(i))
        artefact.finish()
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.pipeline import manifests
from phosphene.pipeline.environment import peak_memory_mb
from phosphene.pipeline.folder import Content, Folder
from phosphene.pipeline.formats import Where, chunks, parquet
from phosphene.pipeline.recipe import Recipe

if TYPE_CHECKING:
    import zarr
    from numpy.typing import ArrayLike, DTypeLike


_log = logging.getLogger("phosphene")


class Store:
    """A folder of artefacts, ``root/<stage>/<name>-<hash>/``."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def artefact(self, recipe: Recipe, private: bool = False) -> Artefact:
        """The artefact of this recipe, whether it exists or not; nothing is created."""
        return Artefact(self.root, recipe, private)


@dataclass(frozen=True)
class Artefact:
    """One result on disk. Small and picklable: workers get it and their part number."""

    root: Path
    recipe: Recipe
    private: bool = False

    @property
    def hash(self) -> str:
        """The recipe's hash: what the recipes of later stages name as their input."""
        return self.recipe.hash

    @property
    def path(self) -> Path:
        """The artefact's folder (absolute)."""
        return self.root / self.recipe.stage / self.recipe.folder

    @property
    def folder(self) -> Folder:
        """What writes its files."""
        return Folder(self.path, self.private)

    @property
    def done(self) -> bool:
        """Whether the manifest and every file it lists are there and undamaged (each is read once
        per process).

        Raises
        ------
        PhospheneError
            If the manifest there belongs to another recipe.
        """
        manifest = self._manifest()
        return (
            manifest is not None
            and "files" in manifest
            and not any(
                disk.fault(self.path / name, *entry) for name, entry in manifest["files"].items()
            )
        )

    @property
    def seems_done(self) -> bool:
        """Whether the manifest and every file it lists are there, by sizes and times: only a file
        that is younger than the manifest is read.
        """
        manifest = self._manifest()
        if not manifest:
            return False
        try:
            finished = (self.path / "manifest.json").stat().st_mtime_ns
        except FileNotFoundError:  # another process has just removed it
            return False
        folder = str(self.path)
        return not any(
            disk.suspicious(os.path.join(folder, name), finished, *entry)
            for name, entry in manifest["files"].items()
        )

    @property
    def damaged(self) -> bool:
        """Whether it was finished once, and its files are no longer as they were then."""
        return self._manifest() is not None and not self.seems_done

    @property
    def progress(self) -> tuple[int, int]:
        """Parts done and parts planned, from file names alone."""
        manifest = self._manifest()
        if manifest:
            return len(manifest["parts"]), len(manifest["parts"])
        try:
            names = os.listdir(self.path / "parts")
        except FileNotFoundError:  # nothing has begun, or another process has just finished
            names = []
        return sum(name.removesuffix(".json").isdigit() for name in names), self._planned() or 0

    # reading

    def array(self, name: str) -> zarr.Array[Any]:
        """A zarr array, read only: ``artefact.array("z")[10:20]`` reads only what it needs."""
        import zarr

        return zarr.open_array(self.folder.existing(f"{name}/zarr.json").parent, mode="r")

    def table(self, name: str) -> Any:
        """A DataFrame: the file ``name.parquet``, or the files of the folder ``name`` one after
        another, sorted.
        """
        import pandas as pd

        if (self.path / name).is_dir():
            files = disk.list_files(self.path / name, "*.parquet")
            return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        return pd.read_parquet(self.folder.existing(f"{name}.parquet"))

    def file(self, name: str) -> Path:
        """The path of a file that must be there."""
        return self.folder.existing(name)

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known about a finished artefact: recipe, files, parts, arrays, facts."""
        manifest = self._manifest()
        if not manifest:
            raise PhospheneError(f"{self.path}: not finished; run the study again to finish it")
        return manifest

    # writing

    def create_array(
        self, name: str, shape: tuple[int, ...], dtype: DTypeLike, chunks: tuple[int, ...]
    ) -> None:
        """Declare a zarr v3 array; parts fill it, each whole chunks. Declaring the same array again
        changes nothing.
        """
        import zarr
        from zarr.storage import MemoryStore

        files: dict[str, Any] = {}
        zarr.create_array(MemoryStore(files), shape=shape, dtype=dtype, chunks=chunks, fill_value=0)
        declared = files["zarr.json"].to_bytes()
        target = self.path / name / "zarr.json"
        found = target.read_bytes() if target.exists() else None
        if found == declared:
            return
        if found is not None and disk.parsed(found) is None:
            _log.warning("%s is damaged and is written again", target)
        elif found is not None:  # declared otherwise before: parts made for that grid are of no use
            self._forget()
        self.folder.write(f"{name}/zarr.json", declared)

    def missing(self, n_parts: int) -> list[int]:
        """The parts still to do, out of `n_parts`; damaged files are named in a warning and their
        parts are among them.

        `n_parts` may depend on the recipe and the data only, never on batch size or number of
        workers. If it differs from last time, all parts are made again.
        """
        manifest = self._manifest()
        if manifest is not None and self.done:
            return []
        if manifest is not None:
            self._reopen(manifest)
        planned = self._planned()
        if planned not in (None, n_parts):
            self.folder.remove("parts")
        if planned != n_parts:  # another process may do the same just now: it writes the same plan
            self.folder.write("parts/plan.json", disk.to_json({"n_parts": n_parts}))
        return [i for i in range(n_parts) if not self._intact(i)]

    @contextmanager
    def part(self, index: int) -> Iterator[Part]:
        """Make and write part `index`: its files are in place when the block ends, and only then it
        counts as done.

        The work belongs into the block, because its seconds are remembered.
        """
        started = time.monotonic()
        part = Part(self)
        yield part
        seconds = round(time.monotonic() - started, 3)
        files = {"files": part.files, "arrays": sorted(part.arrays)}
        marker = files | {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
        self.folder.write(f"parts/{index}.json", disk.to_json(marker))

    def finish(
        self, files: Mapping[str, Content] | None = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Write the manifest, after which the artefact is done.

        Parameters
        ----------
        files
            Last files that belong to no part, such as ``{"scores.parquet": parquet(frame)}``.
        facts
            What else to remember about this run; never read back by a computation.
        """
        if not self.done:  # else another process was first
            markers = [self._marker(i) for i in range(self._planned() or 0)]
            if markers and None not in markers:
                own = {
                    name: self.folder.write(name, content)
                    for name, content in (files or {}).items()
                }
                arrays = {name for marker in markers if marker for name in marker["arrays"]}
                own |= {
                    f"{name}/zarr.json": disk.entry(self.path / name / "zarr.json")
                    for name in sorted(arrays)
                }
                content = manifests.summary(
                    self.path, self.recipe, [m for m in markers if m], own, facts or {}
                )
                self.folder.write("manifest.json", disk.to_json(content, indent=1))
            elif (
                not self.done
            ):  # asked again: the other process may have finished between the two questions
                lacking = [i for i, marker in enumerate(markers) if marker is None]
                raise PhospheneError(
                    f"{self.path}: parts {lacking or 'unplanned'} are not there; run the study "
                    "again"
                )
        self.folder.remove("parts")
        self.folder.sweep()

    def clear(self) -> None:
        """Remove the artefact."""
        self.folder.discard()

    @contextmanager
    def made_anew(self) -> Iterator[None]:
        """Set the artefact aside while another one is made: what ``--force`` does.

        It is put back when the block fails before any part of the new one is done; else the parts
        that are done are worth more.
        """
        old = self.folder.set_aside()
        try:
            yield
        finally:
            if not (self.progress[0] or self.done):
                self.folder.put_back(old)
            disk.remove(old)

    # within

    def _manifest(self) -> dict[str, Any] | None:
        """The manifest, None when there is none, {} when it is damaged."""
        path = self.path / "manifest.json"
        try:
            manifest = disk.parsed(path.read_bytes())
        except FileNotFoundError:
            return None
        if not manifests.is_manifest(manifest):
            return {}
        if manifest["recipe"] != json.loads(self.recipe.canonical):
            raise PhospheneError(
                f"{path}: belongs to another recipe than the one asked for; move this folder away"
            )
        return manifest

    def _marker(self, index: int) -> dict[str, Any] | None:
        try:
            marker = disk.parsed((self.path / f"parts/{index}.json").read_bytes())
        except FileNotFoundError:
            return None
        return marker if isinstance(marker, dict) and {"files", "arrays"} <= marker.keys() else None

    def _planned(self) -> int | None:
        """Number of parts, None before the first run, 0 when the plan is damaged."""
        try:
            plan = disk.parsed((self.path / "parts/plan.json").read_bytes())
        except FileNotFoundError:
            return None
        return int(plan.get("n_parts", 0)) if isinstance(plan, dict) else 0

    def _intact(self, index: int) -> bool:
        """Whether a part is done and undamaged; names what is damaged."""
        marker = self._marker(index)
        faults = (
            [(n, disk.fault(self.path / n, *e)) for n, e in marker["files"].items()]
            if marker
            else []
        )
        for name, fault in faults:
            if fault:
                _log.warning("%s %s; part %d is done again", self.path / name, fault, index)
        return marker is not None and not any(fault for _, fault in faults)

    def _reopen(self, manifest: dict[str, Any]) -> None:
        """Back from a damaged artefact to its parts: markers as they were, then the manifest
        goes.
        """
        files = dict(manifest.get("files", {}))
        parts = manifest.get("parts", [])
        if not manifest:
            _log.warning("%s is damaged; all parts are done again", self.path / "manifest.json")
        for index, part in enumerate(parts):
            self.folder.write(
                f"parts/{index}.json",
                disk.to_json(part | {"files": {n: files.pop(n) for n in part["files"]}}),
            )
        if parts:
            self.folder.write("parts/plan.json", disk.to_json({"n_parts": len(parts)}))
        for name, entry in files.items():
            if fault := disk.fault(self.path / name, *entry):
                _log.warning("%s %s; it is written again", self.path / name, fault)
        (self.path / "manifest.json").unlink(missing_ok=True)

    def _forget(self) -> None:
        """No part counts as done any more."""
        (self.path / "manifest.json").unlink(missing_ok=True)
        self.folder.remove("parts")


class Part:
    """What one part writes; handed out by `Artefact.part`."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self.files: dict[str, disk.Entry] = {}
        self.arrays: set[str] = set()

    def file(self, name: str, content: Content) -> None:
        """A file of this part: its bytes, or a function that writes it at a path
        (``image.to_filename``).
        """
        self.files[name] = self.artefact.folder.write(name, content)

    def table(self, name: str, frame: Any) -> None:
        """A DataFrame as ``name.parquet``; named ``"scores/00003"`` it is read back by
        ``table("scores")``.
        """
        self.file(f"{name}.parquet", parquet(frame))

    def array(self, name: str, where: Where, values: ArrayLike) -> None:
        """Fill whole chunks of a declared array.

        Parameters
        ----------
        where
            A slice of the first axis, or one slice per axis; it must begin and end on chunk edges.
        values
            Exactly the shape of the selection; cast to the array's dtype.
        """
        self.arrays.add(name)
        for key, data in chunks(
            self.artefact.folder.existing(f"{name}/zarr.json"), where, values
        ).items():
            self.file(f"{name}/{key}", data)
