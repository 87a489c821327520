"""One map over parts: serial, loky (processes of this machine) or dask.distributed (a cluster). The
only cluster code.

Workers get a function, paths and part numbers, never arrays; what they make they write to the
store. Every part runs under the same number of threads wherever it runs, because sums of floats
depend on it.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from threading import Thread
from typing import Any

from phosphene.errors import PhospheneError
from phosphene.study import Compute

Work = Callable[[int], object]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SECONDS_BETWEEN_LINES = 10.0
WAIT_FOR_WORKERS = 1800.0  # seconds; jobs of workers may wait in the queue of a cluster


def run_parts(work: Work, parts: Sequence[int], compute: Compute, label: str) -> None:
    """Call ``work(i)`` for every part, in any order, on as many workers as `compute` says.

    Parameters
    ----------
    work
        Picklable: a module-level function, or a `functools.partial` of one with paths and small
        settings. What it returns is dropped.
    parts
        Part numbers, usually ``artefact.missing(n_parts)``; nothing is started when there are none.
    compute
        Backend, number of workers, threads inside each part, progress.
    label
        What the progress says, such as "extract subj01 z".

    Raises
    ------
    Exception
        The error of the first part that fails, unchanged; parts that have not begun are dropped.
    PhospheneError
        If a worker process dies, which is mostly a lack of memory, or the scheduler cannot be
        reached.
    """
    if not parts:
        return
    jobs = min(compute.jobs or n_cores(), len(parts))
    backend = compute.backend
    if backend == "auto":
        backend = "dask" if compute.scheduler else "loky" if compute.jobs != 1 else "serial"
    run = {"serial": _serial, "loky": _loky, "dask": _dask}[backend]
    with closing(run(work, parts, compute, jobs)) as finished:
        _report(finished, len(parts), compute, label)


def n_cores() -> int:
    """Cores that this process may use: affinity, the limits of containers and of Slurm count."""
    from joblib import cpu_count

    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    usable = int(cpu_count())
    return min(usable, int(slurm)) if slurm.isdigit() and int(slurm) else usable


def _serial(
    work: Work, parts: Sequence[int], compute: Compute, jobs: int
) -> Generator[None, None, None]:
    for index in parts:
        _one(work, index, compute.threads)
        yield


def _loky(
    work: Work, parts: Sequence[int], compute: Compute, jobs: int
) -> Generator[None, None, None]:
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import BrokenProcessPool

    started = {"initializer": _start_worker, "initargs": (os.getpid(),)}
    with parallel_config(backend="loky", inner_max_num_threads=compute.threads, **started):
        run = Parallel(
            n_jobs=jobs, batch_size=1, pre_dispatch=jobs, return_as="generator_unordered"
        )
        try:
            yield from run(delayed(_worker_part)(work, index, compute.threads) for index in parts)
        except BrokenProcessPool as error:
            raise _died(compute) from error


def _start_worker(parent: int) -> None:
    """Prepare a worker process of loky."""
    from joblib.externals.loky import process_executor

    # loky restarts workers that grow by 300 MB after their first task, as if they leaked memory;
    # ours grow because they load a model, which a restarted worker would only load again
    process_executor._USE_PSUTIL = False
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent does, even when that was killed and could not say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _dask(
    work: Work, parts: Sequence[int], compute: Compute, jobs: int
) -> Generator[None, None, None]:
    try:
        import distributed
    except ImportError as error:
        raise PhospheneError(
            "--backend dask: Dask is not installed; pip install 'phosphene[cluster]'"
        ) from error
    api: Any = distributed  # typed in part only

    with _client(api, compute, compute.jobs or n_cores()) as client:
        # pure=False: a part is work to do, not a value that may be remembered
        futures = [
            client.submit(_worker_part, work, index, compute.threads, pure=False) for index in parts
        ]
        try:
            for future in api.as_completed(futures, loop=client.loop):
                yield future.result()
        except api.KilledWorker as error:
            raise _died(compute) from error
        finally:
            client.cancel(futures)


@contextmanager
def _client(api: Any, compute: Compute, jobs: int) -> Iterator[Any]:
    """A client of the given scheduler, or of a cluster on this machine that ends with this
    process.
    """
    if compute.scheduler:
        _check_certificates(compute.scheduler)
        try:
            connected = api.Client(compute.scheduler, set_as_default=False, timeout=30)
        except (OSError, ValueError) as error:
            raise PhospheneError(
                f"scheduler '{compute.scheduler}' cannot be reached ({error}); expected an "
                "address like tcp://host:8786"
            ) from error
        with connected:
            _wait_for_workers(connected, compute)
            yield connected
        return
    yield _local_client(api, jobs)


def _wait_for_workers(client: Any, compute: Compute) -> None:
    """Wait until the scheduler has a worker, and say so: a queue of a cluster takes its time."""
    if client.scheduler_info()["workers"]:
        return
    print(f"waiting for workers of {compute.scheduler} ...", file=sys.stderr, flush=True)
    try:
        client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
    except TimeoutError:
        raise PhospheneError(
            f"scheduler '{compute.scheduler}': found no worker within {WAIT_FOR_WORKERS / 60:.0f} "
            "minutes, expected at least one; start workers (dask worker ADDRESS) and run again"
        ) from None


def _check_certificates(address: str) -> None:
    """Refuse an encrypted address without certificates before a client waits for it."""
    import dask

    if address.startswith("tls://") and not dask.config.get(
        "distributed.comm.tls.client.cert", None
    ):
        raise PhospheneError(
            f"scheduler '{address}' needs certificates, and Dask's configuration names none "
            "(distributed.comm.tls); "
            "docs/studies.md, section Clusters, shows the file"
        )


@lru_cache(maxsize=1)
def _local_client(api: Any, jobs: int) -> Any:
    """Start workers once for all stages: each of them takes seconds to import what the work
    needs.
    """
    import dask

    # Other users of this machine can connect to its ports. TLS with certificates of this cluster
    # alone keeps them from running code as this user; without routes nothing is served by HTTP, and
    # then its ports are closed too.
    without_pages: dict[str, list[str]] = {
        f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")
    }
    with dask.config.set(without_pages):
        # no memory limit: the system's own is the one that counts
        options = {
            "n_workers": jobs,
            "threads_per_worker": 1,
            "memory_limit": 0,
            "dashboard_address": ":0",
        }
        try:
            cluster = api.LocalCluster(security=True, **options)
        except ImportError as error:
            raise PhospheneError(
                "--backend dask: the package cryptography is not installed; pip install "
                "'phosphene[cluster]'"
            ) from error
        client = api.Client(cluster, set_as_default=False)
    cluster.scheduler.http_server.stop()
    client.run(_close_pages)
    return client


def _close_pages(dask_worker: Any) -> None:
    dask_worker.http_server.stop()


def _one(work: Work, index: int, threads: int) -> None:
    """One part, in whatever process, under a fixed number of threads."""
    with _limited(threads):
        work(index)


def _worker_part(work: Work, index: int, threads: int) -> None:
    """One part in another process, whose errors must be able to travel."""
    try:
        _one(work, index, threads)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Libraries loaded already are told; those that `work` loads later read the environment."""
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else 0
    try:
        with threadpool_limits(threads):
            if torch:
                torch.set_num_threads(threads)
            yield
    finally:
        if torch:
            torch.set_num_threads(torch_before)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _died(compute: Compute) -> PhospheneError:
    return PhospheneError(
        f"a worker process died, most likely for lack of memory (jobs={compute.jobs}); finished "
        "parts are kept, "
        "run again with fewer jobs or a smaller batch"
    )


def _report(finished: Iterable[None], total: int, compute: Compute, label: str) -> None:
    """Drain `finished`, saying how far it is: a bar on a terminal, a line now and then in a log,
    both on stderr.
    """
    if compute.progress and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        for _ in track(finished, description=label, total=total, console=Console(stderr=True)):
            pass
        return
    started = said = time.monotonic()
    for done, _ in enumerate(finished, start=1):
        now = time.monotonic()
        if compute.progress and (done == total or now - said >= _SECONDS_BETWEEN_LINES):
            print(
                f"{label}: {done}/{total} parts, {now - started:.0f} s", file=sys.stderr, flush=True
            )
            said = now
