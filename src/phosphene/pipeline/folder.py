"""The folder of one artefact: files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
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
        if not path.exists():
            raise PhospheneError(f"{path}: not there; run the study again to make it")
        return path

    def remove(self, name: str) -> None:
        """Remove a folder in here at once, so that a killed process leaves all of it or nothing."""
        self._remove(self.path / name)

    def discard(self) -> None:
        """Remove the whole folder, in the same way."""
        self._remove(self.path)

    def _remove(self, folder: Path) -> None:
        aside = self.temporary / _temporary_name(folder.name)
        try:
            self.temporary.mkdir(parents=True, exist_ok=True)
            os.rename(folder, aside)
        except FileNotFoundError:
            return
        if aside.is_symlink():
            aside.unlink()
        else:
            shutil.rmtree(aside, ignore_errors=True)

    def sweep(self) -> None:
        """Remove temporary files that killed processes have left."""
        disk.sweep(self.temporary)


def _temporary_name(name: str) -> str:
    """A name of this process, by which :func:`phosphene.disk.sweep` knows what a killed one has
    left.
    """
    return f"{socket.gethostname()}+{os.getpid()}+{uuid.uuid4().hex}+{name}"
