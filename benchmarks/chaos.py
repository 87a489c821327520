"""Kill, crowd, starve and damage studies: they must end with the same bits, or with one sentence.

python benchmarks/chaos.py kills together disk inputs server --trials 50

Prints one JSON line for each kind of trouble. Slow (an hour and more), and therefore no part of the
tests. ``disk`` mounts small file systems in memory, which needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STUDY = """
name = "chaos"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 6
images_own = 20
repeats = 1
sessions = 1
[reconstruct]
modes = ["zc"]
samples = 1
steps = 3
[evaluate]
presets = ["pixel"]
bootstrap = 20
permutations = 20
[encode]
analyses = ["features"]
noise = [0.5]
components = 4
bootstrap = 20
"""
BACKENDS = {
    "serial": [],
    "loky": ["--jobs", "2", "--threads", "1"],
    "dask": ["--jobs", "2", "--threads", "1", "--backend", "dask"],
}
LONGEST = 300  # seconds that a command may take


class Study:
    """A small study whose data are simulated once, and the bits of its undisturbed results."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "chaos.toml"
        self.file.write_text(STUDY)
        self.data = folder / "data"
        self.reference = folder / "reference"
        self.seconds: dict[str, float] = {}
        for command in ("run", "encode"):
            started = time.monotonic()
            done = self.finish(command, self.reference)
            assert done.returncode == 0, done.stderr
            self.seconds[command] = time.monotonic() - started
        self.bits = bits(self.reference)

    def words(self, command: str, root: Path, backend: str = "serial") -> list[str]:
        """The command line of a command that keeps its results in `root`."""
        start = [sys.executable, "-m", "phosphene.cli", command, str(self.file)]
        threads = [] if backend != "serial" else ["--threads", "1"]
        return [*start, "--root", str(root), *threads, *BACKENDS[backend]]

    def start(self, command: str, root: Path, backend: str = "serial") -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            self.words(command, root, backend),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(
        self, command: str, root: Path, backend: str = "serial"
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.words(command, root, backend), capture_output=True, text=True, timeout=LONGEST
        )

    def differs(self, root: Path) -> list[str]:
        """Files that are not as in the undisturbed results."""
        found = bits(root)
        return sorted(name for name in self.bits | found if self.bits.get(name) != found.get(name))


def bits(root: Path) -> dict[str, str]:
    """Hashes of all results; manifests hold dates, figures the time at which they were drawn, and
    `perceptual` keeps features, which are no results.
    """
    files = (f for f in root.rglob("*") if f.is_file() and f.name != "manifest.json")
    files = (f for f in files if not {".tmp", "perceptual"} & set(f.parts))
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def kills(study: Study, trials: int, folder: Path) -> dict[str, Any]:
    """Kill -9 a command three to nine times at random moments; the last one must finish it."""
    counts: Counter[str] = Counter()
    chance = random.Random(0)
    for trial in range(trials):
        backend = list(BACKENDS)[trial % len(BACKENDS)]
        root = folder / f"kills{trial}"
        for _ in range(chance.randint(3, 9)):
            command = chance.choice(("run", "encode"))
            process = study.start(command, root, backend)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(1.0, 1.2 * study.seconds[command]))
            if process.poll() is None:
                counts["kills"] += 1
                # now and then the whole group, as the system does when memory runs out
                whole = chance.random() < 0.3
                (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
            process.communicate()
        # the report shows encoding models that were finished before it
        ends = [study.finish(command, root, backend) for command in ("encode", "run")]
        _count(counts, backend, ends, study.differs(root))
        shutil.rmtree(root)
    return {"what": "kills", "trials": trials, **counts}


def together(study: Study, trials: int, folder: Path) -> dict[str, Any]:
    """Two to eight processes make one study at once; all must end well, with the same bits."""
    counts: Counter[str] = Counter()
    chance = random.Random(1)
    for trial in range(trials):
        root = folder / f"together{trial}"
        processes = [study.start("encode", root) for _ in range(chance.randint(2, 8))]
        ends = []
        for process in processes:
            out, err = process.communicate(timeout=4 * LONGEST)
            ends.append(subprocess.CompletedProcess([], process.returncode, out, err))
        counts["processes"] += len(processes)
        ends.append(study.finish("run", root))
        _count(counts, "serial", ends, study.differs(root))
        shutil.rmtree(root)
    return {"what": "together", "trials": trials, **counts}


def _count(
    counts: Counter[str],
    backend: str,
    ends: list[subprocess.CompletedProcess[str]],
    differing: list[str],
) -> None:
    """Count commands that failed and studies that differ, and say which on stderr."""
    counts[backend] += 1
    for end in ends:
        if end.returncode:
            counts["failed commands"] += 1
            print(backend, end.returncode, end.stderr[-2000:], file=sys.stderr)
    # what only differs by the order in which report and encoding models were made is no fault
    differing = [name for name in differing if not name.startswith("report/")]
    if differing:
        counts["studies with other bits"] += 1
        print(backend, differing[:10], file=sys.stderr)


def disk(study: Study, trials: int, folder: Path) -> dict[str, Any]:
    """Results on a disk that gets full, has no inodes left, or becomes read-only: one sentence, and
    the same bits once there is room again.
    """
    counts: Counter[str] = Counter()
    chance = random.Random(2)
    size = sum(f.stat().st_size for f in study.reference.rglob("*") if f.is_file())
    n_files = sum(1 for _ in study.reference.rglob("*"))
    for trial in range(trials):
        root = folder / f"disk{trial}"
        root.mkdir()
        share = chance.uniform(0.02, 0.95)
        kind = ("full", "inodes", "read-only")[trial % 3]
        options = {
            "full": f"size={int(share * size / 1024) + 64}k",
            "inodes": f"nr_inodes={int(share * n_files) + 5}",
            "read-only": "size=4g",
        }[kind]
        with mounted(root, options):
            process = study.start("encode", root / "runs")
            if kind == "read-only":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(1.0, study.seconds["encode"]))
                for _ in range(100):  # refused while a file is open for writing
                    if not subprocess.run(remount(root, "ro"), capture_output=True).returncode:
                        break
                    time.sleep(0.05)
            _, err = process.communicate(timeout=LONGEST)
            counts[f"{kind}, exit {process.returncode}"] += 1
            lines = [line for line in err.splitlines() if line.startswith("Error: ")]
            if "Traceback" in err or (process.returncode and len(lines) != 1):
                counts["no sentence"] += 1
                print(kind, err[-2000:], file=sys.stderr)
            elif process.returncode and str(root) not in lines[0]:
                counts["folder not named"] += 1
                print(kind, lines[0], file=sys.stderr)
            subprocess.run(remount(root, "rw,size=4g,nr_inodes=1m"), check=True)
            ends = [study.finish(command, root / "runs") for command in ("encode", "run")]
            _count(counts, "serial", ends, study.differs(root / "runs"))
        root.rmdir()
    return {"what": "disk", "trials": trials, **counts}


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A file system in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, options: str) -> list[str]:
    """The command that changes a mounted file system."""
    return ["mount", "-o", f"remount,{options}", str(place)]


def damages(content: bytes, other: bytes) -> dict[str, bytes]:
    """Six ways to damage a file."""
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 16]) if content else b"x"
    return {
        "truncated": content[:middle],
        "flipped bit": content[:middle] + flipped + content[middle + 1 :],
        "zeros": content[:middle]
        + bytes(min(512, len(content) - middle))
        + content[middle + 512 :],
        "another file's": other,
        "empty": b"",
        "text": b"\xff\xfe not what it should be \x00" * 8,
    }


def inputs(study: Study, trials: int, folder: Path) -> dict[str, Any]:
    """Damage every input file in six ways: a sentence that names it, or results under new names."""
    from typer.testing import CliRunner

    from phosphene.cli.app import app
    from phosphene.pipeline.caches import begin_command

    counts: Counter[str] = Counter()
    place = folder / "inputs"
    shutil.copytree(study.data, place / "data")
    (place / "chaos.toml").write_text(STUDY)
    files = sorted(f for f in (place / "data").rglob("*") if f.is_file())
    contents = {file: file.read_bytes() for file in files}

    def states(root: Path) -> tuple[int, str, BaseException | None]:
        begin_command()
        words = ["status", str(place / "chaos.toml"), "--root", str(root), "--json"]
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.output, result.exception

    before = states(study.reference)[1]
    for number, file in enumerate(files):
        other = contents[files[(number + 7) % len(files)]]
        for way, damaged in damages(contents[file], other).items():
            if damaged == contents[file]:
                continue
            file.write_bytes(damaged)
            code, output, error = states(study.reference)
            if error is not None and not isinstance(error, SystemExit):
                counts["tracebacks"] += 1
                print(file, way, repr(error)[:300], file=sys.stderr)
            elif code:
                counts["refused"] += 1
                if file.name not in output and file.stem not in output:
                    counts["refused without the file's name"] += 1
                    print(file, way, output[-300:], file=sys.stderr)
            elif output == before:
                counts["no step depends on it"] += 1
                print("unread", file.relative_to(place), way, file=sys.stderr)
            else:
                counts["new names"] += 1
                _make(study, app, place, counts, f"{file.relative_to(place)} {way}")
            file.write_bytes(contents[file])
    return {"what": "inputs", "files": len(files), **counts}


def _make(study: Study, app: Any, place: Path, counts: Counter[str], label: str) -> None:
    """Run a study with a damaged input: it ends well, or with a sentence."""
    from typer.testing import CliRunner

    root = place / "runs"
    shutil.copytree(study.reference, root)
    result = CliRunner().invoke(app, ["run", str(place / "chaos.toml"), "--root", str(root)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        counts["tracebacks"] += 1
        print(label, repr(result.exception)[:300], file=sys.stderr)
    text = result.output
    if "fault of phosphene" in text:
        counts["unexpected errors"] += 1
        print(label, text[-400:], file=sys.stderr)
    counts[f"run, exit {result.exit_code}"] += 1
    shutil.rmtree(root)


def server(study: Study, trials: int, folder: Path) -> dict[str, Any]:
    """Kill the server of the human study while twenty raters answer: no answer may be lost."""
    import bench_ratings

    counts: Counter[str] = Counter()
    for trial in range(trials):
        raters = bench_ratings.make(folder / f"server{trial}", "", 20, 10)
        figures = bench_ratings.run(raters, 0.0, True)
        names = ("clicked", "lost", "changed", "never clicked", "of these lost")
        counts.update({name: figures[name] for name in names})
    return {"what": "server", "trials": trials, **counts}


KINDS: dict[str, Callable[[Study, int, Path], dict[str, Any]]] = {
    "kills": kills,
    "together": together,
    "disk": disk,
    "inputs": inputs,
    "server": server,
}


def main() -> None:
    """Read the command line and print one line for each kind of trouble."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=list(KINDS))
    parser.add_argument("--trials", type=int, default=50)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        study = Study(folder)
        for kind in chosen.kinds or KINDS:
            started = time.monotonic()
            counts = KINDS[kind](study, chosen.trials, folder)
            print(json.dumps({**counts, "seconds": round(time.monotonic() - started)}), flush=True)


if __name__ == "__main__":
    main()
