"""Files of tensors, ``.safetensors`` and those of ``torch.save``: opened without running code.

Damage is noticed by the checksums of the file where it has any, and tensors without values are
refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import disk
from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 20


def read(path: Path, mapped: bool = True) -> Any:
    """Read what a file of tensors holds: named tensors, one tensor, or anything around them.

    Parameters
    ----------
    path : Path
    mapped : bool
        Map tensors into memory, so that each is read when it is used; ``.safetensors`` always are.

    Raises
    ------
    PhospheneError
        When the file is empty, damaged, no plain file, or holds tensors without values.
    Exception
        As torch and safetensors raise it: arbitrary bytes lead to almost anything.
    """
    import torch
    from safetensors.torch import load_file

    disk.check_file(path)
    stat = path.stat()
    if not stat.st_size:
        raise PhospheneError(f"{path}: found an empty file; copy or download it again")
    if path.suffix == ".safetensors":
        return load_file(path)
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_sums(path, stat.st_size, stat.st_mtime_ns)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_zip)
    for tensor in _tensors(content):
        # `expand` gives such tensors, too: a small file of a hundred gigabytes
        values = 0 if tensor.is_meta else tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > values:
            raise PhospheneError(
                f"{path}: holds a tensor of shape {tuple(tensor.shape)} without its values; save "
                "it again on a CPU, made contiguous"
            )
    return content


@lru_cache(maxsize=64)
def _check_sums(path: Path, _size: int, _modified: int) -> None:
    """Compare the checksums of a zip, which torch does not do where it maps a file; each file once
    per process unless it changes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise PhospheneError(
                        f"{path}: is compressed, as torch.save does not; write it again with it"
                    )
                if entry.CRC:  # torch writes 0 where it was told not to compute them
                    with archive.open(entry) as file:
                        while file.read(BLOCK):
                            pass
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise PhospheneError(
            f"{path}: found a damaged or cut-off file ({error}); copy or download it again"
        ) from error


def _tensors(content: Any) -> Iterator[Tensor]:
    """Tensors with values of their own in a dictionary, or in dictionaries in it."""
    import torch

    if isinstance(content, torch.Tensor):
        if content.layout == torch.strided:
            yield content
    elif isinstance(content, dict):
        for value in content.values():
            for inner in value.values() if isinstance(value, dict) else (value,):
                if isinstance(inner, torch.Tensor) and inner.layout == torch.strided:
                    yield inner
