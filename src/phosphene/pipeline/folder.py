"""The folder of one artefact: files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phosphene import disk
from phosphene.errors import PhospheneError

Content = bytes | Callable[[Path], object]
"""The bytes of a file, or a function that writes the file at the path it is given (same suffix as
the final one).
"""


@dataclass(frozen=True)
class Folder:
    """A folder that processes may write to at once, and be killed in at any moment."""

    path: Path
    private: bool = False
    """Whether nobody but the owner may read the files."""

    @property
    def temporary(self) -> Path:
        """Where files are written first: beside the artefacts, on the same disk."""
        return self.path.parent / ".tmp"

    def write(self, name: str, content: Content) -> disk.Entry:
        """Write one file aside and move it over its name: the only way anything is written.

        Returns
        -------
        (int, str)
            Size and SHA-256.
        """
        target = self.path / name
        if not target.resolve().is_relative_to(self.path.resolve()):
            raise PhospheneError(
                f"'{name}' lies outside of {self.path}; give a name within the artefact"
            )
        self.temporary.mkdir(parents=True, exist_ok=True)
        aside = self.temporary / _temporary_name(target.name)
        if self.private:
            aside.touch(mode=0o600)
        try:
            if isinstance(content, bytes):
                aside.write_bytes(content)
                entry = (len(content), hashlib.sha256(content).hexdigest())
            else:
                content(aside)
                entry = disk.entry(aside)
            disk.move(aside, target)
        finally:
            aside.unlink(missing_ok=True)
        return entry

    def existing(self, name: str) -> Path:
        """The path of a file that must be there."""
        path = self.path / name
        if path.exists():
            return path
        if not (self.path / "manifest.json").exists():
            raise PhospheneError(f"{path}: not there; run the study again to make it")
        there = {file.name for file in self.path.iterdir()} - {"manifest.json"}
        raise PhospheneError(f"{path}: no such result; there are {', '.join(sorted(there))}")

    def remove(self, name: str) -> None:
        """Remove a folder in here at once, so that a killed process leaves all of it or nothing."""
        disk.remove(self._moved(self.path / name))

    def discard(self) -> None:
        """Remove the whole folder, in the same way."""
        disk.remove(self.set_aside())

    def set_aside(self) -> Path:
        """Move the whole folder out of the way and say where it is, if it was there."""
        return self._moved(self.path)

    def put_back(self, aside: Path) -> None:
        """Undo :meth:`set_aside`, in place of what there is now."""
        if aside.exists():
            self.discard()
            os.rename(aside, self.path)

    def _moved(self, folder: Path) -> Path:
        aside = self.temporary / _temporary_name(folder.name)
        with contextlib.suppress(FileNotFoundError):
            self.temporary.mkdir(parents=True, exist_ok=True)
            os.rename(folder, aside)
        return aside

    def sweep(self) -> None:
        """Remove temporary files that killed processes have left."""
        disk.sweep(self.temporary)


def _temporary_name(name: str) -> str:
    """A name of this process, by which :func:`phosphene.disk.sweep` knows what a killed one has
    left.
    """
    return f"{socket.gethostname()}+{os.getpid()}+{uuid.uuid4().hex}+{name}"
