"""One map over parts: the same bits in every backend, the same errors, one line a log can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from phosphene.errors import PhospheneError
from phosphene.pipeline.parallel import _local_client, run_parts
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng
from phosphene.study import Compute
from support.environment import SOURCE

N_PARTS = 5
ROWS = 4000
COLUMNS = 300
BACKENDS = [Compute(), Compute(backend="loky", jobs=2), Compute(backend="dask", jobs=2)]


@pytest.fixture(autouse=True)
def importable_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of every backend import this module and phosphene by name."""
    folders = (Path(__file__).parent, SOURCE.parent / "tests", SOURCE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))


def project(artefact: Artefact, i: int) -> None:
    """A part whose bits change with the number of BLAS threads (a matrix-vector product summed over
    its rows).
    """
    x = rng(0, i).standard_normal((ROWS, COLUMNS)).astype("float32")
    with artefact.part(i) as part:
        part.array("x", slice(i, i + 1), (x.T @ x[:, 0].copy())[None])


def make(root: Path, compute: Compute) -> dict[str, bytes]:
    """Every file of a small stage but its manifest."""
    artefact = Store(root).artefact(Recipe("project", "x"))
    artefact.create_array("x", (N_PARTS, COLUMNS), "float32", (1, COLUMNS))
    run_parts(partial(project, artefact), artefact.missing(N_PARTS), compute, "project x")
    artefact.finish()
    assert artefact.done
    files = (f for f in root.rglob("*") if f.is_file() and f.name != "manifest.json")
    return {str(f.relative_to(root)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return make(tmp_path_factory.mktemp("serial"), BACKENDS[0])


@pytest.mark.parametrize("compute", BACKENDS[1:], ids=lambda compute: compute.backend)
def test_every_backend_gives_the_same_bits(
    tmp_path: Path, serial: dict[str, bytes], compute: Compute
) -> None:
    assert len(serial) == N_PARTS + 1
    assert make(tmp_path, compute) == serial


def test_a_scheduler_elsewhere(tmp_path: Path, serial: dict[str, bytes]) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        assert make(tmp_path, Compute(scheduler=cluster.scheduler_address)) == serial


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PhospheneError, match="scheduler 'nowhere://x' cannot be reached"):
        run_parts(partial(touch, Path()), [0], Compute(scheduler="nowhere://x"), "x")


def test_an_encrypted_scheduler_without_certificates() -> None:
    with pytest.raises(PhospheneError, match="scheduler 'tls://127.0.0.1:1' needs certificates"):
        run_parts(partial(touch, Path()), [0], Compute(scheduler="tls://127.0.0.1:1"), "x")


def touch(folder: Path, i: int) -> None:
    (folder / str(i)).touch()


def test_only_the_given_parts_run(tmp_path: Path) -> None:
    run_parts(partial(touch, tmp_path), [1, 4], Compute(backend="loky", jobs=2), "touch")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["1", "4"]
    run_parts(partial(touch, Path("/nowhere")), [], Compute(backend="dask"), "nothing")


def fail_at_three(folder: Path, i: int) -> None:
    if i == 3:
        raise PhospheneError("part 3 is bad")
    time.sleep(0.1)  # long enough for the failure to be heard of before all others are done
    touch(folder, i)


@pytest.mark.parametrize("compute", BACKENDS, ids=lambda compute: compute.backend)
def test_the_first_failure_is_raised_and_the_rest_dropped(tmp_path: Path, compute: Compute) -> None:
    with pytest.raises(PhospheneError, match="^part 3 is bad$"):
        run_parts(partial(fail_at_three, tmp_path), range(3, 60), compute, "fail")
    assert len(list(tmp_path.iterdir())) < 56


def die(i: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PhospheneError, match="a worker process died.*run again with fewer jobs"):
        run_parts(die, [0, 1], Compute(backend="loky", jobs=2), "die")


def note_threads(folder: Path, i: int) -> None:
    import threadpoolctl

    found = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    torch = sys.modules.get("torch")
    found |= {torch.get_num_threads()} if torch else set()
    (folder / f"{i}").write_text(f"{sorted(found)} {os.environ['OMP_NUM_THREADS']}")


@pytest.mark.parametrize("compute", BACKENDS[:2], ids=lambda compute: compute.backend)
def test_every_part_has_the_same_threads(tmp_path: Path, compute: Compute) -> None:
    import torch

    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    run_parts(partial(note_threads, tmp_path), range(3), compute, "threads")
    assert {f.read_text() for f in tmp_path.iterdir()} == {"[2] 2"}
    assert (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == before


def nothing(i: int) -> None:
    pass


def test_a_log_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    run_parts(nothing, range(3), Compute(), "extract subj01 z")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "extract subj01 z: 3/3 parts, 0 s\n"
    run_parts(nothing, range(3), Compute(progress=False), "extract subj01 z")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_parts(nothing, range(3), Compute(), "extract subj01 z")
    assert "extract subj01 z" in capsys.readouterr().err


def test_auto_backend_follows_jobs_and_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    import phosphene.pipeline.parallel as parallel

    used: list[str] = []

    def remember(name: str) -> Any:
        def run(*_: Any) -> Iterator[None]:
            used.append(name)
            yield

        return run

    for name in ("_serial", "_loky", "_dask"):
        monkeypatch.setattr(parallel, name, remember(name))
    for options in ({}, {"jobs": 2}, {"jobs": 0}, {"scheduler": "tcp://x:1"}, {"backend": "dask"}):
        run_parts(nothing, [0], Compute(**options), "x")
    assert used == ["_serial", "_loky", "_loky", "_dask", "_dask"]


# workers and other users of this machine


def listening(process: psutil.Process) -> list[int]:
    return [c.laddr.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]


STRANGER = """
import sys
from distributed import Client
from distributed.security import Security
security = {"none": None, "own": Security.temporary()}[sys.argv[2]]
client = Client(sys.argv[1], timeout=2, security=security)
print("RAN", client.submit(sum, [1, 2]).result())
"""


def test_nobody_else_can_use_a_local_cluster() -> None:
    """The scheduler refuses whoever lacks the certificates of this run, and no port serves a
    page.
    """
    import distributed

    client = _local_client(distributed, 2)
    address = client.cluster.scheduler_address
    assert address.startswith("tls://127.0.0.1:")
    for url in (address, address.replace("tls", "tcp")):
        for security in ("none", "own"):
            stranger = [sys.executable, "-c", STRANGER, url, security]
            result = subprocess.run(stranger, capture_output=True, text=True, timeout=60)
            assert result.returncode == 1 and "RAN" not in result.stdout
    own = psutil.Process()
    ports = [port for one in (own, *own.children(recursive=True)) for port in listening(one)]
    assert int(address.rpartition(":")[2]) in ports
    for port in ports:
        with pytest.raises(OSError):
            urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()


def grow(folder: Path, i: int) -> None:
    """Four small parts, then parts after which a process holds 400 MB more, as one that has loaded
    a model does.
    """
    kept = globals().setdefault("_model", bytearray(400_000_000)) if i >= 4 else b""
    time.sleep(1.1 if i >= 4 else 0)  # loky looks once a second
    (folder / f"{i}-{os.getpid()}-{len(kept)}").touch()


def test_workers_that_load_a_model_are_kept(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    compute = Compute(backend="loky", jobs=2)
    run_parts(partial(grow, tmp_path), range(4), compute, "small")
    run_parts(partial(grow, tmp_path), range(4, 10), compute, "large")
    assert len({file.name.split("-")[1] for file in tmp_path.iterdir()}) <= 2
    assert not [str(w.message) for w in recwarn if "worker" in str(w.message).lower()]


WAITING = """
import sys
from functools import partial
from pathlib import Path
from test_parallel import wait_there
from phosphene.pipeline.parallel import run_parts
from phosphene.study import Compute
if __name__ == "__main__":
    compute = Compute(backend=sys.argv[2], jobs=2)
    run_parts(partial(wait_there, Path(sys.argv[1])), range(2), compute, "wait")
"""


def wait_there(folder: Path, i: int) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_workers_end_with_a_killed_parent(tmp_path: Path, backend: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(tmp_path), backend], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = [psutil.Process(int(file.name)) for file in tmp_path.iterdir()]
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert len(gone) == 2 and not alive
