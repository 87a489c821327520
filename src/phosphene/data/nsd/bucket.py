"""NSD's public bucket: what is in it, its bytes, and whether bytes on disk are the bucket's."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from phosphene.errors import PhospheneError

BUCKET = "natural-scenes-dataset"
REGION = "us-east-2"
MIB = 1 << 20
MOST_PAGES = 100  # of 1,000 files; the largest folder of NSD has some hundred files
LARGEST = 5 << 40  # bytes; S3 has no larger objects
PART_SIZES = tuple(
    n * MIB for n in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1024)
)


class Unreachable(PhospheneError):
    """The network failed, not the request: the same request may succeed later."""


class Bucket:
    """NSD's bucket, read anonymously.

    Parameters
    ----------
    endpoint_url : str, optional
        Another server that speaks S3 and has a bucket of the same name.
    jobs : int
        Connections at once. How often a request is repeated is botocore's setting
        (``AWS_MAX_ATTEMPTS``).
    """

    def __init__(self, endpoint_url: str | None = None, jobs: int = 4) -> None:
        self._where = f"{endpoint_url or 's3:/'}/{BUCKET}"
        config = Config(
            signature_version=UNSIGNED,
            region_name=REGION,
            retries={"mode": "standard"},
            max_pool_connections=jobs,
            connect_timeout=20,
            read_timeout=60,
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        try:
            self.client = boto3.client("s3", endpoint_url=endpoint_url, config=config)
        except (BotoCoreError, ValueError) as error:
            raise PhospheneError(
                f"{self._where}: not an address to connect to ({error}); check --endpoint-url "
                "(https://host:9000) and "
                "the AWS_ variables of the environment"
            ) from error

    def files(self, folder: str) -> dict[str, tuple[int, str]]:
        """Size and ETag of every file directly in a folder ("nsddata/experiments/nsd/").

        Names are plain (letters, digits and ``_ . + -``), so none of them leads out of the folder;
        others are left out.
        """
        found = {}
        with self._said(folder):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=BUCKET, Prefix=folder, Delimiter="/"
            )
            for number, page in enumerate(pages):
                if number == MOST_PAGES:
                    raise PhospheneError(
                        f"{self._where}/{folder}: the server lists more than {MOST_PAGES} pages of "
                        "files, which NSD does not have; check --endpoint-url"
                    )
                found.update(self._listed(folder, page.get("Contents", ())))
        return found

    def _listed(self, folder: str, entries: Iterable[Any]) -> dict[str, tuple[int, str]]:
        """Files of one page of a listing."""
        files = {}
        for entry in entries:
            key = str(entry.get("Key", ""))
            name = key.removeprefix(folder)
            if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII) or key != folder + name:
                continue
            size = entry.get("Size")
            if not isinstance(size, int) or not 0 <= size <= LARGEST or "ETag" not in entry:
                raise PhospheneError(
                    f"{self._where}/{key}: the server lists it with the size {size!r} and "
                    f"{'an' if 'ETag' in entry else 'no'} ETag; check --endpoint-url"
                )
            files[name] = (size, re.sub(r"[^\w-]", "", entry["ETag"], flags=re.ASCII))
        return files

    def _length(self, key: str, answer: Mapping[str, Any]) -> int:
        """Bytes that an answer announces."""
        if "ContentLength" not in answer:
            raise PhospheneError(
                f"{self._where}/{key}: the server does not say how many bytes it sends "
                "(Content-Length); check --endpoint-url and proxies"
            )
        return int(answer["ContentLength"])

    def read(self, key: str, size: int, etag: str, start: int) -> Iterator[tuple[int, bytes]]:
        """Give the bytes of a file from `start` on, with where they belong, as long as it has this
        ETag.

        Raises
        ------
        PhospheneError
            Also when more than `size` bytes come; none of them is given.
        """
        ranged = {"Range": f"bytes={start}-"} if start else {}
        with self._said(key):
            answer = self.client.get_object(Bucket=BUCKET, Key=key, IfMatch=f'"{etag}"', **ranged)
            # a server may send all in spite of Range
            at = 0 if self._length(key, answer) == size else start
            with closing(answer["Body"]) as body:
                for chunk in body.iter_chunks(MIB):
                    if at + len(chunk) > size:
                        raise PhospheneError(
                            f"{self._where}/{key}: the server sends more than the {size} bytes "
                            "that it lists; check --endpoint-url"
                        )
                    yield at, chunk
                    at += len(chunk)
        if at < size:
            raise Unreachable(f"{self._where}/{key}: ended after {at} of {size} bytes; run again")

    def part_size(self, key: str) -> int | None:
        """Bytes of the first of the parts that a large file was uploaded in; None when the server
        does not tell.
        """
        try:
            with self._said(key):
                answer = self.client.head_object(Bucket=BUCKET, Key=key, PartNumber=1)
            return self._length(key, answer) if answer.get("PartsCount") else None
        except PhospheneError:
            return None

    @contextmanager
    def _said(self, key: str) -> Iterator[None]:
        """Turn what botocore raises into one sentence."""
        where = f"{self._where}/{key}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            reasons = {
                "NoSuchBucket": "this server has no such bucket; check --endpoint-url",
                "NoSuchKey": "vanished from the bucket; run again",
                "PreconditionFailed": "changed on the server during the download; run again",
                "412": "changed on the server during the download; run again",
                "AccessDenied": (
                    "access denied; the bucket is public, so check --endpoint-url and proxies"
                ),
                "403": "access denied; the bucket is public, so check --endpoint-url and proxies",
            }
            raise PhospheneError(
                f"{where}: {reasons.get(code, f'the server refused ({error})')}"
            ) from error
        except (BotoCoreError, HTTPError) as error:
            raise Unreachable(
                f"{where}: the server cannot be reached or broke off ({error}); check the network "
                "and run again, "
                "what was downloaded is kept"
            ) from error


def verified(path: Path, etag: str, part_size: int | None = None) -> bool | None:
    """Compare a file's contents with its ETag.

    Parameters
    ----------
    path : path
    etag : str
        MD5 of the file, or ``<MD5 of the parts' MD5s>-<number of parts>`` when it was uploaded in
        parts.
    part_size : int, optional
        Bytes of every part but the last. Without it, the usual sizes are tried.

    Returns
    -------
    bool or None
        None when the ETag is no MD5, or is one of parts whose size is not known: nothing can be
        said.
    """
    if not (match := re.fullmatch(r"([0-9a-f]{32})(?:-(\d+))?", etag)):
        return None
    if not match[2]:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest() == match[1]
    size = path.stat().st_size
    n_parts = int(match[2])
    if part_size and math.ceil(size / part_size) == n_parts:
        return _md5_of_parts(path, part_size) == match[1]
    rounded = MIB * math.ceil(size / max(n_parts, 1) / MIB)
    fitting = (p for p in sorted({*PART_SIZES, rounded}) if p and math.ceil(size / p) == n_parts)
    return True if any(_md5_of_parts(path, p) == match[1] for p in fitting) else None


def _md5_of_parts(path: Path, part_size: int) -> str:
    """MD5 of the concatenated MD5s of all parts, as S3 computes it."""
    digests = []
    with path.open("rb") as file:
        left = path.stat().st_size
        while left > 0:
            digest = hashlib.md5()
            end = min(part_size, left)
            for start in range(0, end, MIB):
                digest.update(file.read(min(MIB, end - start)))
            digests.append(digest.digest())
            left -= end
    return hashlib.md5(b"".join(digests)).hexdigest()
