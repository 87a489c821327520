"""Section D: data and results as they lie on real disks; several processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from phosphene.errors import PhospheneError
from phosphene.pipeline.graph import make
from phosphene.pipeline.parallel import n_cores, run_parts
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.results import results
from phosphene.study import Compute, Study
from support.steps import Text

QUIET = Compute(progress=False)


@pytest.fixture
def study(tmp_path):
    return Study.from_dict({}, root=tmp_path)


@pytest.mark.parametrize(
    "name", ["V1 left", "Übersicht", "a/b:c*?", ".hidden", "x" * 400, "ü" * 90]
)
def test_d7_any_name_can_name_a_folder(study, name):
    (artefact,) = make([Text(study, name)], QUIET)
    assert artefact.path.parent.name == "texts" and len(os.fsencode(artefact.path.name)) < 200
    assert artefact.path.name.isascii() and "/" not in artefact.path.name
    assert [(result.name, result.is_finished) for result in results(study.root)] == [(name, True)]


def test_d7_plain_names_are_spelled_as_they_are():
    recipe = Recipe("extract", "subj01-c_2.x")
    assert recipe.folder == f"subj01-c_2.x-{recipe.hash}"
    with pytest.raises(PhospheneError, match="stage"):
        Recipe("../elsewhere", "name")


def test_d9_one_worker_per_core_that_may_be_used(monkeypatch):
    code = "from phosphene.pipeline.parallel import n_cores; print(n_cores())"
    first = min(os.sched_getaffinity(0))
    words = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{first}}}); {code}"]
    assert subprocess.check_output(words, text=True).strip() == "1"
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert n_cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "100000")
    assert n_cores() <= (os.cpu_count() or 1)


def test_d10_a_scheduler_without_workers_is_waited_for_aloud_and_not_for_ever(monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("phosphene.pipeline.parallel.WAIT_FOR_WORKERS", 0.2)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, processes=False) as cluster:
        compute = Compute(scheduler=cluster.scheduler_address, progress=False)
        with pytest.raises(PhospheneError, match="found no worker within"):
            run_parts(print, [0], compute, "nothing")
    assert "waiting for workers of" in capsys.readouterr().err


class Stubborn(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def fails(index: int) -> None:
    raise Stubborn("the cause", "of it")


def test_d11_an_error_of_a_worker_arrives_whatever_it_is():
    with pytest.raises(RuntimeError, match="Stubborn: the cause of it"):
        run_parts(fails, [0, 1], Compute(jobs=2, progress=False), "nothing")


def test_d14_a_full_disk_names_the_folder_and_what_is_still_needed(study, monkeypatch):
    write = Text.make_part

    def full(self, part, index, compute):
        if index == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
        write(self, part, index, compute)

    monkeypatch.setattr(Text, "make_part", full)
    with pytest.raises(
        PhospheneError, match=r"disk is full.* texts a needs about .* GB more"
    ) as error:
        make([Text(study, "a")], QUIET)
    assert str(error.value).startswith(f"{study.root}: ")
    monkeypatch.undo()
    make([Text(study, "a")], QUIET)  # the part that was finished is kept


def test_d14_a_finished_study_can_be_read_by_who_may_not_write_to_it(study, monkeypatch):
    (artefact,) = make([Text(study, "a")], QUIET)

    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(study.root))

    for module, name in ((os, "mkdir"), (os, "rename"), (os, "replace"), (os, "unlink")):
        monkeypatch.setattr(module, name, forbidden)
    assert make([Text(study, "a")], QUIET) == [artefact]
    assert [result.name for result in results(study.root)] == ["a"]
    with pytest.raises(PermissionError):
        make([Text(study, "b")], QUIET)


def test_b8_what_force_replaces_is_kept_until_a_part_of_the_new_is_done(study, monkeypatch):
    (artefact,) = make([Text(study, "a")], QUIET)
    before = artefact.file("0.txt").stat().st_ino
    write = Text.make_part

    def fails_at(number):
        def make_part(self, part, index, compute):
            if index == number:
                raise OSError(errno.EIO, "read error")
            write(self, part, index, compute)

        return make_part

    monkeypatch.setattr(Text, "make_part", fails_at(0))
    with pytest.raises(OSError, match="read error"):
        make([Text(study, "a")], QUIET, force=True)
    assert artefact.done and artefact.file("0.txt").stat().st_ino == before
    monkeypatch.setattr(Text, "make_part", fails_at(1))
    with pytest.raises(OSError, match="read error"):
        make([Text(study, "a")], QUIET, force=True)
    assert artefact.progress == (1, 2) and artefact.file("0.txt").stat().st_ino != before
    assert list((artefact.path.parent / ".tmp").iterdir()) == []
