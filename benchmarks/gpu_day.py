"""Run every part that needs a GPU, each with a time limit, and write `gpu_day.json`, `gpu_day.txt`
and a log per part.

Parts run in the order of their importance. A part that fails or runs out of time is recorded, and
the next one starts; the time that a part leaves over goes to the parts after it. `--dry` runs the
same parts on the CPU at tiny sizes. Memory of the GPU is that of all its processes, sampled twice a
second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common import machine_facts
from packaging.requirements import Requirement

Json = dict[str, Any]

REPOSITORY = Path(__file__).parents[1]
BENCHMARKS = REPOSITORY / "benchmarks"
TOTAL_SECONDS = 530  # of the nine minutes, the rest is for starting and ending
GRACE_SECONDS = 5  # between the signals TERM and KILL
MACHINE_PACKAGES = (
    "numpy",
    "torch",
    "transformers",
    "diffusers",
    "himalaya",
    "zarr",
    "scikit-learn",
)


@dataclass(frozen=True)
class Part:
    """One part: `command` gets the folder for its result and its seconds; `read` reads its result
    from that folder.
    """

    name: str
    seconds: float
    command: Callable[[Path, float], Sequence[str]]
    read: Callable[[Path], Json]


def tests_command(device: str, folder: Path, seconds: float) -> list[str]:
    # a family with properties of tests
    report = [
        f"--junitxml={folder / 'tests.xml'}",
        "-o",
        "junit_family=xunit1",
    ]
    place = str(REPOSITORY / "tests" / "gpu")
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *report, place]


def read_tests(folder: Path) -> Json:
    """Read the counts, what tests have measured, and the first line of every failure."""
    suite = ElementTree.parse(folder / "tests.xml").getroot().find("testsuite")
    assert suite is not None
    result: Json = {
        name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
    }
    failed: dict[str, str] = {}
    measured: dict[str, Json] = {}
    for case in suite.iter("testcase"):
        name = case.get("name", "")
        for problem in [*case.iter("failure"), *case.iter("error")]:
            failed[name] = problem.get("message", "").split("\n")[0]
        properties = {one.get("name", ""): one.get("value", "") for one in case.iter("property")}
        if properties:
            measured[name] = properties
    return result | {"failed": failed, "measured": measured}


def demo_command(options: Sequence[str], folder: Path, seconds: float) -> list[str]:
    return [sys.executable, str(BENCHMARKS / "gpu_demo.py"), *options, "--out", str(folder)]


def benchmark_command(
    script: str, options: Sequence[str], folder: Path, seconds: float
) -> list[str]:
    """Command of a benchmark that begins nothing that would last beyond its time."""
    stop = str(max(seconds - 2 * GRACE_SECONDS, 1))
    return [
        sys.executable,
        str(BENCHMARKS / script),
        *options,
        "--out",
        str(folder),
        "--stop",
        stop,
    ]


def read_json(name: str, folder: Path) -> Json:
    result: Json = json.loads((folder / name).read_text())
    return result


def parts(device: str, dry: bool) -> list[Part]:
    """List the parts, the most important first."""
    quick = ["--quick"] if dry else []
    demo = partial(demo_command, ["--device", device, *quick])
    sampling_options = (
        ["--quick", "--device", device] if dry else ["--batches", "8", "32", "--pictures", "32"]
    )
    sampling = partial(benchmark_command, "bench_sampling.py", ["--sd14", *sampling_options])
    ridge = partial(benchmark_command, "gpu_ridge.py", ["--device", device, *quick])
    sampling_file = "sampling-quick.json" if dry else "sampling.json"
    return [
        Part("tests", 150, partial(tests_command, device), read_tests),
        Part("demo", 120, demo, partial(read_json, "demo.json")),
        Part("sampling", 130, sampling, partial(read_json, sampling_file)),
        Part("ridge", 110, ridge, partial(read_json, "ridge.json")),
    ]


@contextmanager
def gpu_memory(peak: Json) -> Iterator[None]:
    """Note under "gpu_memory_mib" the most memory in use on the first GPU, where there is one."""
    done = threading.Event()
    samples: list[int] = []

    def sample() -> None:
        while not done.wait(0.5):
            answer = query_gpu("memory.used")
            if answer:
                samples.append(int(answer[0].split()[0]))

    sampler = threading.Thread(target=sample, daemon=True)
    if shutil.which("nvidia-smi"):
        sampler.start()
    try:
        yield
    finally:
        done.set()
        if sampler.is_alive():
            sampler.join()
        peak["gpu_memory_mib"] = max(samples, default=None)


def query_gpu(fields: str) -> list[str]:
    """Ask nvidia-smi about the first GPU; an empty list where there is none."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return [field.strip() for field in lines[0].split(",")] if lines else []


def run_part(part: Part, seconds: float, out: Path, environment: dict[str, str]) -> Json:
    """Run one part, and read its result even when it did not end well: benchmarks save after every
    measurement.
    """
    record: Json = {"limit_seconds": round(seconds)}
    log = out / f"{part.name}.log"
    with tempfile.TemporaryDirectory(prefix=f"gpu-{part.name}-") as folder:
        command = part.command(Path(folder), seconds)
        limit = ["timeout", f"--kill-after={GRACE_SECONDS}", str(max(seconds - GRACE_SECONDS, 1))]
        started = time.monotonic()
        with log.open("w") as file, gpu_memory(record):
            process = subprocess.run(
                [*limit, *command],
                cwd=REPOSITORY,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        record["seconds"] = round(time.monotonic() - started, 1)
        record["exit_code"] = process.returncode
        try:
            record["result"] = part.read(Path(folder))
        except Exception as error:  # a part that failed may have left anything, or nothing
            record["result"] = None
            record["result_error"] = f"{type(error).__name__}: {error}"
    if process.returncode in (124, 137, -9):
        record["outcome"] = "timed out"
    elif process.returncode or record["result"] is None:
        record["outcome"] = "failed"
    else:
        record["outcome"] = "ok"
    if record["outcome"] != "ok":
        lines = [
            line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()
        ]
        record["reason"] = lines[-1][:500] if lines else record.get("result_error", "no output")
    return record


def run_parts(
    todo: Sequence[Part], total: float, out: Path, environment: dict[str, str]
) -> Iterator[tuple[str, Json]]:
    """Run parts one after the other; a part may use the time that those before it left over."""
    end = time.monotonic() + total
    for index, part in enumerate(todo):
        reserved = sum(later.seconds for later in todo[index + 1 :])
        seconds = max(end - time.monotonic() - reserved, 10)
        yield part.name, run_part(part, seconds, out, environment)


def missing_packages() -> list[str]:
    """Dependencies of phosphene that are absent, or of another version than it asks for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    missing = []
    for text in [*project["dependencies"], "himalaya", "pytest", "pytest-timeout"]:
        requirement = Requirement(text)
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"{text} (absent)")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(f"{text} ({installed})")
    return missing


def install_wheels(wheels: Path, target: Path) -> str:
    """Install wheels into a folder of their own; the reason where that failed."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        return f"no wheels in {wheels.name}/"
    options = [
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--no-cache-dir",
        "--upgrade",
        "--target",
        str(target),
    ]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, *files]
    process = subprocess.run(command, capture_output=True, text=True, timeout=90)
    lines = process.stderr.strip().splitlines() or ["no output"]
    return (
        "" if process.returncode == 0 else f"the wheels could not be installed ({lines[-1][:300]})"
    )


def gpu_facts() -> Json:
    """Name, driver and memory of the first GPU, and PyTorch's versions and settings of
    precision.
    """
    try:
        import torch
    except ImportError as error:
        return {"cuda_is_available": False, "error": str(error)}
    answer: list[str | None] = [*query_gpu("name,driver_version,memory.total")] or [None] * 3
    return dict(zip(("name", "driver", "memory_mib"), answer, strict=True)) | {
        "count": torch.cuda.device_count(),
        "cuda_is_available": torch.cuda.is_available(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_in_matrix_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
    }


def text_report(record: Json) -> str:
    """Write the outcome in lines that a person can read."""
    gpu = record["gpu"]
    title = "dry run on the CPU, tiny sizes" if record["dry"] else "on a GPU"
    lines = [
        f"phosphene {title}, {record['date']}, device {record['device']}",
        f"GPU {gpu.get('name')}, driver {gpu.get('driver')}, torch {gpu.get('torch')}",
        f"missing: {', '.join(record['missing']) or 'nothing'}",
        "",
    ]
    for name, part in record["parts"].items():
        memory = part.get("gpu_memory_mib")
        facts = [
            f"{part['seconds']:.0f} s" if "seconds" in part else "",
            f"{memory} MiB on the GPU" if memory else "",
        ]
        lines.append(f"{name}: {part['outcome']}  {', '.join(filter(None, facts))}")
        if "reason" in part:
            lines.append(f"  {part['reason']}")
        lines += [f"  {line}" for line in summary(name, part.get("result") or {})]
    lines += ["", f"{record['seconds']:.0f} s in all, outcome {'ok' if record['ok'] else 'not ok'}"]
    return "\n".join(lines) + "\n"


def summary(name: str, result: Json) -> list[str]:
    """The figures of a part that a reader looks for first."""
    if name == "tests" and result:
        failed = [f"{test}: {message}" for test, message in result["failed"].items()]
        return [f"{result['tests']} tests, {len(failed)} failed", *failed]
    if name == "demo":
        return [
            f"{key}: {result[key]}"
            for key in ("command_seconds", "largest_difference")
            if key in result
        ]
    if name == "sampling":
        return [
            f"{kind}: {value['pictures_per_second']} pictures per second"
            for kind, value in result.items()
        ]
    ridge = [
        f"{key}: {value.get('ratio')} times himalaya's speed"
        for key, value in result.get("pairs", {}).items()
    ]
    alone = [f"{key}: {value.get('seconds')} s" for key, value in result.get("alone", {}).items()]
    return ridge + alone


def main() -> int:
    """Parse options, run, write; 0 when all parts are ok."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--device", default="", help="in place of cuda, or of cpu with --dry")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="tests, demo, sampling, ridge"
    )
    parser.add_argument(
        "--seconds", type=float, default=TOTAL_SECONDS, help="of all parts together"
    )
    parser.add_argument(
        "--wheels-folder", type=Path, default=Path(".whl"), help="packages to install for this run"
    )
    args = parser.parse_args()
    started = time.monotonic()
    device = args.device or ("cpu" if args.dry else "cuda")
    default_out = REPOSITORY / ("build/gpu" if args.dry else "benchmarks/results/gpu")
    out = Path(os.environ.get("OUT") or default_out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-site-") as site:
        missing = [] if args.dry else [install_wheels(args.wheels_folder.resolve(), Path(site))]
        sys.path.append(site)
        gpu = gpu_facts()
        missing += missing_packages()
        is_runnable = device == "cpu" or args.dry or gpu["cuda_is_available"]
        if not is_runnable:
            missing.append("a CUDA device")
        packages = [name for name in MACHINE_PACKAGES if is_installed(name)]
        record: Json = {
            "dry": args.dry,
            "device": device,
            "date": datetime.now().isoformat(timespec="seconds"),
            "machine": machine_facts(*packages),
            "gpu": gpu,
            "missing": [text for text in missing if text],
            "parts": {},
        }
        paths = [str(REPOSITORY / "src"), site, os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            "PHOSPHENE_TEST_DEVICE": device,
        }
        if args.dry:
            environment["OMP_NUM_THREADS"] = (
                "1"  # threads that wait for each other are slow on a busy machine
            )
        todo = [part for part in parts(device, args.dry) if not args.only or part.name in args.only]
        if is_runnable:
            left = args.seconds - (time.monotonic() - started)
            for name, outcome in run_parts(todo, left, out, environment):
                record["parts"][name] = outcome
                print(f"{name}: {outcome['outcome']}, {outcome['seconds']} s", flush=True)
                write(record, started, len(todo), out)
        else:
            record["parts"] = {
                part.name: {"outcome": "missing", "reason": "no CUDA device"} for part in todo
            }
        write(record, started, len(todo), out)
    print(text_report(record), flush=True)
    return 0 if record["ok"] else 1


def is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def write(record: Json, started: float, n_parts: int, out: Path) -> None:
    """Write what is known so far."""
    outcomes = [part["outcome"] for part in record["parts"].values()]
    record["ok"] = outcomes == ["ok"] * n_parts
    record["seconds"] = round(time.monotonic() - started, 1)
    (out / "gpu_day.json").write_text(json.dumps(record, indent=1) + "\n")
    (out / "gpu_day.txt").write_text(text_report(record))


if __name__ == "__main__":
    sys.exit(main())
