"""Downloading NSD, against a local S3 server that holds a small simulated copy of the bucket."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.stub import Stubber
from filelock import FileLock
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from phosphene.cli import fetch as command_module
from phosphene.cli.app import app
from phosphene.data.nsd import NSD, fetch
from phosphene.data.nsd import bucket as bucket_module
from phosphene.data.nsd.bucket import BUCKET, MIB, Bucket, verified
from phosphene.data.simulated.simulate import simulate
from phosphene.errors import PhospheneError

pytestmark = pytest.mark.filterwarnings("ignore:.*voxels have no data")
BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/{}/func1pt8mm/roi"
CSV = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
DECOYS = (
    "nsddata/experiments/nsd/nsd_stim_info_merged.pkl",
    f"{BETAS}/betas_session01.mat",
    f"{BETAS}/R2.nii.gz",
    f"{ROI}/old/streams.nii.gz",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated folder; its second subject is a copy of the first without a third session and
    transforms.
    """
    root = simulate(
        tmp_path_factory.mktemp("source") / "nsd",
        images_shared=4,
        images_own=8,
        sessions=3,
        voxel_size=8.0,
        picture_size=32,
        nifti=True,
    )
    for folder in ("nsddata/ppdata", "nsddata/freesurfer", "nsddata_betas/ppdata"):
        left_out = shutil.ignore_patterns("transforms", "betas_session03.*")
        shutil.copytree(root / folder / "subj01", root / folder / "subj02", ignore=left_out)
    return root


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def owner(url: str) -> Any:
    """Who may write to the bucket."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-2",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture(scope="module")
def server(url: str, owner: Any, source: Path) -> str:
    """The address of a server with the bucket: the real one holds more than is wanted, and no
    annotations.
    """
    owner.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-east-2"}
    )
    for path in source.glob("nsddata*/**/*"):
        if path.is_file() and path.parent.name != "annotations":
            owner.put_object(
                Bucket=BUCKET,
                Key=path.relative_to(source).as_posix(),
                Body=path.read_bytes(),
                ACL="public-read",
            )
    for decoy in DECOYS:
        owner.put_object(
            Bucket=BUCKET, Key=decoy.format("subj01"), Body=b"not wanted", ACL="public-read"
        )
    return url


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text('[data]\nroot = "nsd"\n')
    return path


@pytest.fixture(scope="module")
def uploaded(owner: Any, server: str) -> bytes:
    """What ``nsddata/big.bin`` holds: 12 MiB, uploaded in parts of 5 MiB."""
    content = np.random.default_rng(0).bytes(12 * MIB)
    _upload(owner, "nsddata/big.bin", content, 5)
    return content


@pytest.fixture
def big(uploaded: bytes, server: str) -> tuple[Bucket, fetch.RemoteFile, bytes]:
    bucket = Bucket(server)
    return bucket, _remote(bucket, "nsddata/big.bin"), uploaded


def _upload(owner: Any, key: str, content: bytes, part: int) -> None:
    config = TransferConfig(
        multipart_threshold=5 * MIB, multipart_chunksize=part * MIB, use_threads=False
    )
    owner.upload_fileobj(
        io.BytesIO(content), BUCKET, key, Config=config, ExtraArgs={"ACL": "public-read"}
    )


def _remote(bucket: Bucket, key: str) -> fetch.RemoteFile:
    folder, name = key.rsplit("/", 1)
    size, etag = bucket.files(f"{folder}/")[name]
    return fetch.RemoteFile(key, size, etag, "", "missing", 0)


def _run(study: Path, server: str, *options: str) -> Any:
    return CliRunner().invoke(app, ["fetch", "nsd", str(study), "--endpoint-url", server, *options])


def _requests(bucket: Bucket) -> list[tuple[str, str | None]]:
    """Key and range of every GET that the bucket will be asked for."""
    seen: list[tuple[str, str | None]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        seen.append((params["url"].partition(f"{BUCKET}/")[2], params["headers"].get("Range")))

    bucket.client.meta.events.register("before-call.s3.GetObject", note)
    return seen


def _files(root: Path) -> set[str]:
    return {
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.is_file() and p.name != ".phosphene-fetch.lock"
    }


def _expected(source: Path, subject: str, betas: str = "*.hdf5") -> set[str]:
    patterns = [
        "nsddata/experiments/nsd/nsd_expdesign.mat",
        CSV,
        STIMULI,
        "nsddata/freesurfer/fsaverage/label/*.ctab",
        f"nsddata/freesurfer/{subject}/label/*.ctab",
        f"nsddata/ppdata/{subject}/behav/responses.tsv",
        f"nsddata/ppdata/{subject}/func1pt8mm/brainmask.nii.gz",
        f"{ROI}/*.nii.gz".format(subject),
        f"nsddata/ppdata/{subject}/transforms/*.mgz",
        f"{BETAS}/betas_session{betas}".format(subject),
        f"{BETAS}/ncsnr.nii.gz".format(subject),
    ]
    return {p.relative_to(source).as_posix() for pattern in patterns for p in source.glob(pattern)}


# ---- whole studies
# --------------------------------------------------------------------------------------------------


def test_what_is_fetched_reads_like_the_original(source: Path, server: str, study: Path) -> None:
    done = _run(study, server, "--yes", "-v")
    root = study.parent / "nsd"
    assert done.exit_code == 0, done.output
    assert _files(root) == _expected(source, "subj01")
    there = NSD(source, "subj01")
    here = NSD(root, "subj01")
    pd.testing.assert_frame_equal(there.trials, here.trials)
    pd.testing.assert_frame_equal(there.voxels("brain"), here.voxels("brain"))
    np.testing.assert_array_equal(
        there.betas(["early", "ventral"]), here.betas(["early", "ventral"])
    )
    np.testing.assert_array_equal(there.images([0, 3]), here.images([0, 3]))
    assert "annotations_trainval2017.zip" in done.stdout and "Accepted beforehand" in done.stderr
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}
    shutil.copytree(
        source / "nsddata_stimuli/stimuli/nsd/annotations",
        root / "nsddata_stimuli/stimuli/nsd/annotations",
    )
    again = _run(study, server)  # nothing to do, so nothing to accept, and COCO is there now
    assert (
        again.exit_code == 0
        and "Downloaded 0 files; " in again.stdout
        and "COCO" not in again.stdout
    )
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_nifti_and_chosen_sessions(source: Path, server: str, study: Path) -> None:
    done = _run(
        study,
        server,
        "--yes",
        "--format",
        "nii.gz",
        "--set",
        "data.sessions=[3, 1]",
        "--jobs",
        "2",
        "--json",
    )
    assert done.exit_code == 0, done.output
    expected = _expected(source, "subj01", "0[13].nii.gz")
    assert _files(study.parent / "nsd") == expected
    assert set(json.loads(done.stdout)["downloaded"]) == expected
    assert NSD(study.parent / "nsd", "subj01").sessions == (1, 3)


def test_a_session_that_is_not_there(server: str, study: Path) -> None:
    done = _run(
        study,
        server,
        "--yes",
        "--subject",
        "subj01",
        "--subject",
        "subj02",
        "--set",
        "data.sessions=[1, 3]",
    )
    assert done.exit_code == 1 and "subj02" in done.stderr and "no session 3 of" in done.stderr
    assert "there are 2, the last is 2" in done.stderr and len(done.stderr.splitlines()) <= 2
    assert not (study.parent / "nsd").exists()


def test_a_subject_without_optional_files(source: Path, server: str, study: Path) -> None:
    done = _run(study, server, "--yes", "--subject", "subj02")
    assert done.exit_code == 0, done.output
    assert _files(study.parent / "nsd") == _expected(source, "subj02")
    assert "layerB[123].mgz: 0 of at least 6 in the bucket; there will be no maps" in done.stderr


def test_dry_run(source: Path, server: str, study: Path) -> None:
    total = sum((source / key).stat().st_size for key in _expected(source, "subj01"))
    done = _run(study, server, "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert {file["key"] for file in found["files"]} == _expected(source, "subj01")
    assert sum(file["size"] for file in found["files"]) == total
    assert {file["state"] for file in found["files"]} == {"missing"} and len(
        found["missing_annotations"]
    ) == 4
    short, long = (
        _run(study, server, "--dry-run", *extra).stdout.splitlines() for extra in ((), ("-v",))
    )
    assert any(
        re.fullmatch(rf" +3 +\S+ .B  {BETAS.format('subj01')}/betas_session\*\.hdf5", line)
        for line in short
    )
    assert len(long) - len(short) == len(found["files"]) - (len(short) - 2)
    assert (
        f" {command_module._size(total)}  in all; {command_module._size(total)} to download"
        in short[-2]
    )
    assert not (study.parent / "nsd").exists()


def test_another_file_under_the_same_name_is_announced_and_replaced(
    source: Path, server: str, study: Path
) -> None:
    mine = study.parent / "nsd" / CSV
    mine.parent.mkdir(parents=True)
    content = (source / CSV).read_bytes()
    mine.write_bytes(content[::-1])  # of the right size
    done = _run(study, server, "--yes")
    assert f"will be replaced: {CSV}\n" in done.stdout and mine.read_bytes() == content


# ---- terms
# --------------------------------------------------------------------------------------------------


def test_terms_are_never_accepted_silently(
    server: str, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _run(study, server)
    assert (
        done.exit_code == 1 and "--yes" in done.stderr and "naturalscenesdataset.org" in done.stderr
    )
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(
        command_module, "sys", SimpleNamespace(stdin=terminal, stderr=io.StringIO())
    )
    for answer in ("\n", "n\n"):
        done = CliRunner().invoke(
            app, ["fetch", "nsd", str(study), "--endpoint-url", server], input=answer
        )
        assert done.exit_code == 1 and "nothing was downloaded" in done.stderr
    assert not (study.parent / "nsd").exists()
    done = CliRunner().invoke(
        app, ["fetch", "nsd", str(study), "--endpoint-url", server], input="y\n"
    )
    assert done.exit_code == 0 and (study.parent / "nsd" / CSV).exists()


# ---- resuming and verifying
# ------------------------------------------------------------------------------------------


def test_a_part_is_continued_and_a_corrupt_one_redone(
    source: Path, server: str, tmp_path: Path
) -> None:
    bucket = Bucket(server)
    keys = [f"{BETAS}/betas_session0{n}.hdf5".format("subj01") for n in (1, 2)]
    contents = [(source / key).read_bytes() for key in keys]
    files, _ = fetch.plan(bucket, tmp_path, ["subj01"])
    cut = len(contents[0]) // 3
    for file in files:
        if file.key in keys:
            part = fetch._part(tmp_path / file.key, file.etag)
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(contents[0][:cut] if file.key == keys[0] else b"\7" * cut)
    files, _ = fetch.plan(bucket, tmp_path, ["subj01"])
    assert {file.key for file in files if file.state == "partial"} == set(keys)
    requests = _requests(bucket)
    reports = []
    assert fetch.download(bucket, files, tmp_path, 3, reports.append) == []
    assert [ranged for key, ranged in requests if key == keys[0]] == [f"bytes={cut}-"]
    assert [ranged for key, ranged in requests if key == keys[1]] == [f"bytes={cut}-", None]
    assert [(tmp_path / key).read_bytes() for key in keys] == contents
    assert reports[-1] == sum(file.size for file in files) and not list(tmp_path.rglob("*.part"))


def test_a_download_survives_kill(big: Any, server: str, tmp_path: Path, start_python: Any) -> None:
    bucket, file, content = big
    code = """
import sys, time
from pathlib import Path
from phosphene.data.nsd import bucket, fetch

class Slow(bucket.Bucket):
    def read(self, *arguments):
        for piece in super().read(*arguments):
            yield piece
            time.sleep(0.1)

url, root, size, etag = sys.argv[1:]
file = fetch.RemoteFile("nsddata/big.bin", int(size), etag, "", "missing", 0)
fetch.download(Slow(url), [file], Path(root))
"""
    process = start_python(code, server, tmp_path, file.size, file.etag)
    target = tmp_path / file.key
    part = fetch._part(target, file.etag)
    until = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 2 * MIB):
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = part.stat().st_size
    assert 2 * MIB <= kept < file.size and not target.exists()
    requests = _requests(bucket)
    assert fetch.download(bucket, [file], tmp_path) == []
    assert requests == [(file.key, f"bytes={kept}-")] and target.read_bytes() == content


def test_objects_uploaded_in_parts(big: Any, tmp_path: Path) -> None:
    bucket, file, content = big
    path = tmp_path / "copy"
    path.write_bytes(content)
    assert file.etag.endswith("-3") and bucket.part_size(file.key) == 5 * MIB
    assert verified(path, file.etag) is True and verified(path, file.etag, 5 * MIB) is True
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert verified(path, file.etag) is None  # parts of another size would have another ETag
    assert verified(path, file.etag, 5 * MIB) is False

    part = fetch._part(tmp_path / file.key, file.etag)
    part.parent.mkdir()
    part.write_bytes(b"\0" * file.size)  # complete and wrong
    requests = _requests(bucket)
    assert fetch.download(bucket, [file], tmp_path) == []
    assert requests == [(file.key, None)] and (tmp_path / file.key).read_bytes() == content


def test_parts_of_unusual_size(
    owner: Any, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"12345678" * MIB
    bucket = Bucket(server)
    _upload(owner, "odd/odd.bin", content, 7)
    file = _remote(bucket, "odd/odd.bin")
    assert file.etag.endswith("-2") and fetch.download(bucket, [file], tmp_path / "told") == []
    monkeypatch.setattr(Bucket, "part_size", lambda self, key: None)
    assert fetch.download(bucket, [file], tmp_path / "untold") == [file.key]
    assert (tmp_path / "untold" / file.key).read_bytes() == content


def test_an_object_that_changed_starts_from_zero(owner: Any, server: str, tmp_path: Path) -> None:
    bucket = Bucket(server)
    key = "changing/a.csv"
    owner.put_object(Bucket=BUCKET, Key=key, Body=b"old, longer", ACL="public-read")
    old = _remote(bucket, key)
    part = fetch._part(tmp_path / key, old.etag)
    part.parent.mkdir()
    part.write_bytes(b"old")
    owner.put_object(Bucket=BUCKET, Key=key, Body=b"new", ACL="public-read")
    with pytest.raises(PhospheneError, match="changed on the server during the download"):
        fetch.download(bucket, [old], tmp_path)
    assert fetch.download(bucket, [_remote(bucket, key)], tmp_path) == []
    assert (tmp_path / key).read_bytes() == b"new" and not list(tmp_path.rglob("*.part"))


def test_bytes_that_stay_wrong(big: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, file, content = big
    monkeypatch.setattr(bucket, "read", lambda key, size, etag, start: iter([(0, content[::-1])]))
    with pytest.raises(PhospheneError, match=r"big\.bin: downloaded twice, its checksum differs"):
        fetch.download(bucket, [file], tmp_path)
    assert not list(tmp_path.rglob("*big.bin*"))


@pytest.mark.parametrize("pieces", [3, 0])
def test_a_network_that_breaks_off(
    big: Any, tmp_path: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, file, content = big
    monkeypatch.setattr(fetch, "PAUSE", 0)
    read = bucket.read
    starts = []

    def broken(key: str, size: int, etag: str, start: int) -> Iterator[tuple[int, bytes]]:
        starts.append(start)
        for _, piece in zip(range(pieces), read(key, size, etag, start), strict=False):
            yield piece
        if start + pieces * MIB < size:
            raise bucket_module.Unreachable("broke off")

    monkeypatch.setattr(bucket, "read", broken)
    if pieces:
        assert fetch.download(bucket, [file], tmp_path) == []
        assert (
            starts == [0, 3 * MIB, 6 * MIB, 9 * MIB]
            and (tmp_path / file.key).read_bytes() == content
        )
    else:
        with pytest.raises(PhospheneError, match="broke off"):
            fetch.download(bucket, [file], tmp_path)
        assert starts == [0] * fetch.INTERRUPTIONS


def test_a_server_that_does_not_resume(big: Any, tmp_path: Path) -> None:
    bucket, file, content = big
    part = fetch._part(tmp_path / file.key, file.etag)
    part.parent.mkdir()
    part.write_bytes(b"\7" * MIB)

    def forget(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("Range", None)

    bucket.client.meta.events.register("before-call.s3.GetObject", forget)
    assert (
        fetch.download(bucket, [file], tmp_path) == []
        and (tmp_path / file.key).read_bytes() == content
    )


# ---- refusals
# --------------------------------------------------------------------------------------------------


def test_names_that_lead_elsewhere_are_no_files(server: str) -> None:
    bucket = Bucket(server)
    folder = "nsddata/roi/"
    names = (
        "good.nii.gz",
        "../evil.nii.gz",
        "..\\evil.nii.gz",
        "..",
        "a\0.nii.gz",
        "C:evil.nii.gz",
        ".hidden.nii.gz",
        "",
    )
    entries = [{"Key": folder + name, "Size": 1, "ETag": '"../1f"'} for name in names]
    with Stubber(bucket.client) as stub:
        outside = {"Key": "/etc/evil.nii.gz", "Size": 1, "ETag": '"1f"'}
        stub.add_response(
            "list_objects_v2", {"Contents": [*entries, outside], "IsTruncated": False}
        )
        assert bucket.files(folder) == {"good.nii.gz": (1, "1f")}


@pytest.mark.parametrize(
    ("code", "said"),
    [("AccessDenied", "access denied"), ("NoSuchKey", "vanished"), ("Odd", "the server refused")],
)
def test_refusals_of_the_server(server: str, code: str, said: str) -> None:
    bucket = Bucket(server)
    with Stubber(bucket.client) as stub:
        stub.add_client_error("list_objects_v2", code, "no")
        with pytest.raises(PhospheneError, match=said):
            bucket.files("nsddata/")


def test_no_such_bucket_and_no_such_server(
    server: str, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for address, said in (
        ("http://127.0.0.1:9", "cannot be reached"),
        ("nowhere", "not an address to connect to"),
    ):
        done = _run(study, address, "--yes")
        assert done.exit_code == 1 and address in done.stderr and said in done.stderr
    monkeypatch.setattr(bucket_module, "BUCKET", "another")
    assert "no such bucket" in _run(study, server, "--yes").stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.simulate.enabled=true", "its data are simulated"),
        ("data.kind=haxby", "its data are haxby"),
        ("data.resolution=func2mm", "expected 'func1pt8mm' or 'func1mm'"),
        ("data.resolution=func1mm", r"brainmask.nii.gz: not in the bucket"),
        ("data.betas='../../betas'", "data.betas: found '../../betas'"),
        ("data.subjects=['subj09']", "expected some of 'subj01' to 'subj08'"),
    ],
)
def test_wrong_studies(server: str, study: Path, change: str, said: str) -> None:
    done = _run(study, server, "--yes", "--set", change)
    assert done.exit_code == 1 and said in done.stderr and not (study.parent / "nsd").exists()


def test_measured_data_do_not_mix_with_simulated(source: Path, server: str, study: Path) -> None:
    assert (
        "holds simulated data"
        in _run(study, server, "--yes", "--set", f"data.root={source}").stderr
    )
    assert "--format" in _run(study, server, "--yes", "--format", "mat").stderr


def test_a_full_disk(server: str, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    done = _run(study, server, "--yes")
    assert done.exit_code == 1 and re.search(r"\d GB are needed, 0\.0 GB are free", done.stderr)
    assert not (study.parent / "nsd").exists()


def test_a_disk_that_fills_up_meanwhile(
    big: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, file, _ = big

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(
        PhospheneError, match=r"big\.bin\..*\.part: could not be written .*No space left on device"
    ):
        fetch.download(bucket, [file], tmp_path)
    assert (
        fetch._part(tmp_path / file.key, file.etag).exists() and not (tmp_path / file.key).exists()
    )


def test_two_downloads_to_one_folder(big: Any, tmp_path: Path) -> None:
    bucket, file, _ = big
    with (
        FileLock(tmp_path / ".phosphene-fetch.lock"),
        pytest.raises(PhospheneError, match="another `phosphene fetch`"),
    ):
        fetch.download(bucket, [file], tmp_path)


def test_one_failure_stops_the_others(
    big: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, file, content = big
    begun = threading.Event()

    def read(key: str, size: int, etag: str, start: int) -> Iterator[tuple[int, bytes]]:
        if key == "bad":
            begun.wait(10)
            raise PhospheneError("bad file")
        for at in range(start, size):
            begun.set()
            yield at, content[at : at + 1]

    monkeypatch.setattr(bucket, "read", read)
    bad = fetch.RemoteFile("bad", 1, "0" * 32, "", "missing", 0)
    with pytest.raises(PhospheneError, match="bad file"):
        fetch.download(bucket, [file, bad], tmp_path)
    assert 0 < fetch._part(tmp_path / file.key, file.etag).stat().st_size < file.size


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with command_module._progress(
        [fetch.RemoteFile("a", 2_000_000, "", "", "missing", 0)]
    ) as report:
        report(1_000_000)
        report(2_000_000)
    assert capsys.readouterr().err == "fetch nsd: 2.0 MB of 2.0 MB, 0 s\n"
