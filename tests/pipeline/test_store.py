"""Artefacts: named by their recipe, whole or absent, the same bits however often the making of them
was killed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.pipeline.formats import parquet
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng

RECIPE = Recipe("extract", "subj01-z", 1, {"size": 64, "rois": ["early"]}, {"data": "abc"})
# the last part holds 2 rows of 4
N_PARTS = 4
ROWS = 14
COLUMNS = 3
fork = multiprocessing.get_context("fork")


def make(root: Path, made: list[int] | None = None) -> Artefact:
    """A stage in small; `made` collects the parts that were computed."""
    artefact = Store(root).artefact(RECIPE)
    if not artefact.done:
        artefact.create_array("z", shape=(ROWS, COLUMNS), dtype="float32", chunks=(4, COLUMNS))
        for i in artefact.missing(N_PARTS):
            make_part(artefact, i)
            if made is not None:
                made.append(i)
        artefact.finish(
            files={"scores.parquet": parquet(pd.DataFrame({"r": [0.5]}))}, facts={"note": "small"}
        )
    return artefact


def make_part(artefact: Artefact, i: int) -> None:
    rows = slice(4 * i, min(4 * (i + 1), ROWS))
    with artefact.part(i) as part:
        part.array("z", rows, rng(0, i).standard_normal((rows.stop - rows.start, COLUMNS)))
        part.file(f"pictures/{i}.txt", f"picture {i}".encode())
        part.table(f"trials/{i:05d}", pd.DataFrame({"part": [i, i], "x": [0.1 * i, 1.0]}))


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a result but the manifest, whose facts hold the date; markers are no result."""
    files = (
        f
        for f in root.rglob("*")
        if f.is_file() and f.name != "manifest.json" and f.parent.name != "parts"
    )
    return {str(f.relative_to(root)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    make(root)
    return tree(root)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    assert artefact.done and artefact.path == tmp_path / "extract" / f"subj01-z-{RECIPE.hash}"
    expected = np.concatenate(
        [rng(0, i).standard_normal((min(4, ROWS - 4 * i), COLUMNS)) for i in range(N_PARTS)]
    )
    np.testing.assert_array_equal(artefact.array("z")[:], expected.astype("float32"))
    assert artefact.table("scores").r.tolist() == [0.5]
    assert artefact.table("trials").part.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert artefact.file("pictures/2.txt").read_text() == "picture 2"
    manifest = artefact.manifest
    assert manifest["recipe"] == json.loads(RECIPE.canonical) and manifest["hash"] == RECIPE.hash
    assert manifest["arrays"] == {"z": {"shape": [ROWS, COLUMNS], "dtype": "float32"}}
    assert set(manifest["files"]) == {name.split("/", 2)[2] for name in tree(tmp_path)}
    assert manifest["facts"]["note"] == "small" and manifest["facts"]["packages"]["zarr"]
    assert manifest["facts"]["seconds"] >= 0 and manifest["facts"]["peak_memory_mb"] > 1
    with pytest.raises(
        PhospheneError, match="scores2.parquet: no such result; there are .*scores.parquet"
    ):
        artefact.table("scores2")


def test_arrays_are_zarr_v3_that_anyone_can_read(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    assert json.loads((artefact.path / "z" / "zarr.json").read_text())["zarr_format"] == 3
    assert sorted(f.name for f in (artefact.path / "z" / "c").iterdir()) == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="read"):
        artefact.array("z")[0] = 1


def test_a_second_call_computes_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    made: list[int] = []
    make(tmp_path, made)
    assert made == []


# names


def test_the_hash_is_stable() -> None:
    assert RECIPE.canonical == (
        '{"inputs":{"data":"abc"},"name":"subj01-z","settings":{"rois":["early"],"size":64},"stage":"extract","version":1}'
    )
    assert RECIPE.hash == "11924751e5"


def test_the_hash_does_not_depend_on_order_or_container() -> None:
    settings = {"rois": ("early",), "size": np.int64(64)}
    assert Recipe("extract", "subj01-z", 1, settings, {"data": "abc"}).hash == RECIPE.hash


def test_everything_in_a_recipe_is_hashed() -> None:
    others = [
        Recipe("decode", "subj01-z", 1, RECIPE.settings, RECIPE.inputs),
        Recipe("extract", "subj01-c", 1, RECIPE.settings, RECIPE.inputs),
        Recipe("extract", "subj01-z", 2, RECIPE.settings, RECIPE.inputs),
        Recipe("extract", "subj01-z", 1, {"size": 32}, RECIPE.inputs),
        Recipe("extract", "subj01-z", 1, RECIPE.settings, {"data": "abd"}),
    ]
    assert len({recipe.hash for recipe in [RECIPE, *others]}) == 6


def test_what_cannot_be_a_recipe() -> None:
    for stage, name in (("../x", "name"), ("extract", "")):
        with pytest.raises(PhospheneError, match="expected letters"):
            Recipe(stage, name)
    assert "/" not in Recipe("extract", "../x").folder
    with pytest.raises(TypeError, match="JSON values only"):
        _ = Recipe("extract", "x", settings={"path": Path("x")}).hash
    with pytest.raises(ValueError, match="JSON"):
        _ = Recipe("extract", "x", settings={"value": float("nan")}).hash


def test_a_manifest_of_another_recipe_is_not_taken(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    manifest = artefact.manifest
    manifest["recipe"]["settings"]["size"] = 65
    (artefact.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PhospheneError, match="belongs to another recipe"):
        _ = artefact.done


def test_an_artefact_is_small_when_pickled(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    data = pickle.dumps(artefact)
    assert len(data) < 2000 and pickle.loads(data) == artefact and pickle.loads(data).done


# killed at any moment


def _killed_at(root: Path, step: int, after: bool) -> None:
    """Child process: make the artefact, kill -9 itself right before or after the step-th file
    appears.
    """
    replace = os.replace
    count = iter(range(10**6))

    def counted(source: str, target: str) -> None:
        kill = next(count) == step
        if kill and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted  # type: ignore[assignment]
    make(root)


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_step_it_ends_with_the_same_bits(
    tmp_path: Path, whole: dict[str, bytes], after: bool
) -> None:
    n_files = len(whole) + 1 + 1 + N_PARTS  # with plan, manifest and markers
    for step in range(n_files + 1):
        root = tmp_path / str(step)
        child = fork.Process(target=_killed_at, args=(root, step, after))
        child.start()
        child.join(60)
        assert child.exitcode == (-signal.SIGKILL if step < n_files else 0)
        done_before = len(list(root.glob("*/*/parts/[0-9]*.json")))
        made: list[int] = []
        artefact = make(root, made)
        assert artefact.done and tree(root) == whole
        if step < n_files - 2:
            assert len(made) == N_PARTS - done_before
        assert not (artefact.path / "parts").exists() or step >= n_files - 1


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_store
write = test_store.make_part
def slowly(artefact, i):
    write(artefact, i)
    print(i, flush=True)
    time.sleep(0.2)
test_store.make_part = slowly
test_store.make(sys.argv[1])
"""


def test_killed_from_outside(tmp_path: Path, whole: dict[str, bytes], start_python) -> None:
    process = start_python(SCRIPT, tmp_path, Path(__file__).parent)
    assert process.stdout.readline() == "0\n" and process.stdout.readline() == "1\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert Store(tmp_path).artefact(RECIPE).progress == (2, N_PARTS)
    made: list[int] = []
    make(tmp_path, made)
    assert made == [2, 3] and tree(tmp_path) == whole
    assert Store(tmp_path).artefact(RECIPE).progress == (N_PARTS, N_PARTS)


def test_a_part_that_fails_is_not_done(tmp_path: Path) -> None:
    artefact = Store(tmp_path).artefact(RECIPE)
    assert Store(tmp_path).artefact(RECIPE).progress == (0, 0)
    artefact.missing(2)
    with pytest.raises(RuntimeError), artefact.part(0) as part:
        part.file("a.txt", b"a")
        raise RuntimeError
    assert artefact.missing(2) == [0, 1]
    with pytest.raises(PhospheneError, match=r"parts \[0, 1\] are not there"):
        artefact.finish()
    assert not artefact.done


# damage


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("how", ["truncated", "missing", "changed"])
@pytest.mark.parametrize("name", ["z/c/1/0", "pictures/1.txt"])
def test_a_damaged_file_is_found_named_and_redone(
    tmp_path: Path,
    whole: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    finished: bool,
    how: str,
    name: str,
) -> None:
    artefact = Store(tmp_path).artefact(RECIPE)
    if finished:
        make(tmp_path)
    else:
        artefact.create_array("z", shape=(ROWS, COLUMNS), dtype="float32", chunks=(4, COLUMNS))
        for i in artefact.missing(N_PARTS)[:3]:
            make_part(artefact, i)
    damage(artefact.path / name, how)
    made: list[int] = []
    with caplog.at_level(logging.WARNING, "phosphene"):
        make(tmp_path, made)
    assert made == ([1] if finished else [1, 3])
    assert name in caplog.text and "part 1 is done again" in caplog.text
    assert artefact.done and tree(tmp_path) == whole


@pytest.mark.parametrize("how", ["truncated", "missing", "changed"])
@pytest.mark.parametrize("name", ["scores.parquet", "z/zarr.json", "manifest.json"])
def test_damage_outside_of_the_parts(
    tmp_path: Path, whole: dict[str, bytes], how: str, name: str
) -> None:
    artefact = make(tmp_path)
    damage(artefact.path / name, how)
    made: list[int] = []
    assert make(tmp_path, made).done
    assert made == (list(range(N_PARTS)) if name == "manifest.json" else [])
    assert tree(tmp_path) == whole


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    time.sleep(0.002)  # another mtime, as any later damage has
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "truncated" else b"\xff" + data[1:])


def test_another_division_into_parts_starts_anew(tmp_path: Path) -> None:
    artefact = Store(tmp_path).artefact(RECIPE)
    artefact.create_array("z", shape=(8, 1), dtype="float32", chunks=(4, 1))
    for i in artefact.missing(2):
        with artefact.part(i) as part:
            part.array("z", slice(4 * i, 4 * i + 4), np.ones((4, 1)))
    assert artefact.missing(2) == []
    assert artefact.missing(4) == [0, 1, 2, 3]
    artefact.missing(2)
    with artefact.part(0) as part:
        part.file("a", b"a")
    artefact.create_array("z", shape=(8, 1), dtype="float32", chunks=(2, 1))
    assert artefact.missing(2) == [0, 1]


def test_clear(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    artefact.clear()
    assert not artefact.path.exists() and not artefact.done


# two at once


def _make_when_told(root: Path, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    assert make(root).done


def test_two_processes_at_once_tear_nothing(tmp_path: Path, whole: dict[str, bytes]) -> None:
    for attempt in range(8):
        root = tmp_path / str(attempt)
        barrier = fork.Barrier(2)
        children = [fork.Process(target=_make_when_told, args=(root, barrier)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0, 0]
        artefact = Store(root).artefact(RECIPE)
        assert artefact.done and tree(artefact.path.parent) == {
            n.split("/", 1)[1]: d for n, d in whole.items()
        }


def test_another_process_may_finish_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two file operations of `finish` and `progress` the other run may remove the
    folder of markers.
    """
    looked = []
    entry = disk.entry

    def entry_while_the_other_finishes(path: Path) -> disk.Entry:
        if path.name == "zarr.json" and not looked:
            looked.append(path)
            Store(tmp_path).artefact(RECIPE).finish()
        return entry(path)

    artefact = Store(tmp_path).artefact(RECIPE)
    artefact.create_array("z", shape=(ROWS, COLUMNS), dtype="float32", chunks=(4, COLUMNS))
    for i in artefact.missing(N_PARTS):
        make_part(artefact, i)
    monkeypatch.setattr(disk, "entry", entry_while_the_other_finishes)
    artefact.finish()
    assert looked and artefact.done
    assert "z/zarr.json" in artefact.manifest["files"] and artefact.manifest["arrays"]["z"][
        "shape"
    ] == [ROWS, COLUMNS]


def test_a_second_run_keeps_the_markers_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see that there is no plan; when the second one writes it, a part of the first is done
    already.
    """
    first, second = (Store(tmp_path).artefact(RECIPE) for _ in range(2))
    first.create_array("z", shape=(ROWS, COLUMNS), dtype="float32", chunks=(4, COLUMNS))
    planned = Artefact._planned

    def planned_then_overtaken(self: Artefact) -> int | None:
        answer = planned(self)
        monkeypatch.setattr(Artefact, "_planned", planned)
        make_part(first, first.missing(N_PARTS)[0])
        return answer

    monkeypatch.setattr(Artefact, "_planned", planned_then_overtaken)
    assert second.missing(N_PARTS) == [1, 2, 3]
    assert make(tmp_path).done


# what a part may write


def test_array_selections_are_whole_chunks(tmp_path: Path) -> None:
    artefact = Store(tmp_path).artefact(RECIPE)
    artefact.create_array("coef", shape=(3, 10), dtype="float32", chunks=(3, 4))
    with artefact.part(0) as part:
        part.array("coef", (slice(None), slice(4, 10)), np.arange(18).reshape(3, 6))
        assert sorted(part.files) == ["coef/c/0/1", "coef/c/0/2"]
        for where, shape in (((slice(None), slice(2, 6)), (3, 4)), (slice(0, 2), (2, 10))):
            with pytest.raises(ValueError, match="whole chunks"):
                part.array("coef", where, np.zeros(shape))
        with pytest.raises(ValueError, match="do not fit"):
            part.array("coef", (slice(None), slice(0, 4)), np.zeros((1, 4)))
        with pytest.raises(PhospheneError, match="not there"):
            part.array("other", slice(0, 1), np.zeros(1))
    np.testing.assert_array_equal(artefact.array("coef")[:, 4:], np.arange(18).reshape(3, 6))
    assert not artefact.array("coef")[:, :4].any()


def test_zeros_are_written_too(tmp_path: Path) -> None:
    artefact = Store(tmp_path).artefact(RECIPE)
    artefact.create_array("z", shape=(4, 1), dtype="float32", chunks=(4, 1))
    with artefact.part(0) as part:
        part.array("z", slice(0, 4), np.zeros((4, 1)))
        assert list(part.files) == ["z/c/0/0"]


def test_a_file_may_be_written_by_a_function(tmp_path: Path) -> None:
    artefact = Store(tmp_path).artefact(RECIPE)
    with artefact.part(0) as part:
        part.file("maps/r.nii.gz", lambda path: path.write_text(path.name[-7:]))
        assert artefact.file("maps/r.nii.gz").read_text() == ".nii.gz"
        with pytest.raises(ZeroDivisionError):
            part.file("maps/q.nii.gz", lambda path: path.write_text("half") / 0)
        with pytest.raises(PhospheneError, match="lies outside"):
            part.file("../x", b"")
    assert not (artefact.path / "maps/q.nii.gz").exists()
    assert list((artefact.path.parent / ".tmp").iterdir()) == []
