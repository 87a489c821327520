"""The graph of steps on a small study of files: what is made, when, and how often."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phosphene.errors import PhospheneError
from phosphene.pipeline.caches import begin_command, cached
from phosphene.pipeline.cost import Cost, of_group, total
from phosphene.pipeline.graph import grouped, make, states, superfluous, unfinished, walk
from phosphene.pipeline.step import Key, Step
from phosphene.study import Compute, Study

QUIET = Compute(progress=False)


@dataclass(frozen=True, eq=False)
class Word(Step):
    """A file that holds a word and the words of its sources."""

    stage: ClassVar[str] = "words"
    made: ClassVar[list[str]] = []

    word: str
    given: tuple[Word, ...] = ()
    first: tuple[Word, ...] = ()
    extra: tuple[Word, ...] = ()
    key: str = "0"
    between: bool = False
    passes: str = ""
    refused: bool = False

    @property
    def name(self) -> str:
        return self.word

    @property
    def transient(self) -> bool:
        return self.between

    def inputs(self) -> Mapping[str, Step | Key]:
        return {"key": Key(self.key), **{step.word: step for step in self.given}}

    def requires(self) -> Sequence[Step]:
        return self.first

    def optional(self) -> Mapping[str, Step]:
        return {step.word: step for step in self.extra}

    def check(self, compute: Compute) -> None:
        if self.refused:
            raise PhospheneError(f"{self.word}: found a step that refuses, expected none.")

    def n_parts(self) -> int:
        return 2

    def group(self) -> Any:
        return self.passes or self.hash

    def make_parts(self, parts: Mapping[Any, Any], index: int, compute: Compute) -> None:
        self.made.append(f"{'+'.join(step.word for step in parts)}:{index}")
        super().make_parts(parts, index, compute)

    def make_part(self, part: Any, index: int, compute: Compute) -> None:
        sources = [*self.given, *self.first, *self.finished_options.values()]
        words = [step.artefact.file("0.txt").read_text() for step in sources]
        part.file(f"{index}.txt", " ".join([*words, self.word]).encode())


@cached
def content(path: str) -> str:
    return Path(path).read_text()


@dataclass(frozen=True, eq=False)
class Copy(Step):
    """A copy of a file."""

    stage: ClassVar[str] = "copy"

    path: str

    @property
    def name(self) -> str:
        return "copy"

    def inputs(self) -> Mapping[str, Step | Key]:
        return {"file": Key(content(self.path))}

    def n_parts(self) -> int:
        return 2

    def make_part(self, part: Any, index: int, compute: Compute) -> None:
        part.file(f"{index}.txt", content(self.path).encode())


@pytest.fixture
def study(tmp_path):
    Word.made.clear()
    return Study.from_dict({}, root=tmp_path)


def stages(steps):
    return [step.name for step in steps]


def test_sources_are_made_first_and_only_once(study):
    a = Word(study, "a")
    b = Word(study, "b", given=(a,))
    c = Word(study, "c", given=(Word(study, "a"), b))
    (artefact,) = make([c], QUIET)
    assert artefact.file("0.txt").read_text() == "a a b c"
    assert Word.made == ["a:0", "a:1", "b:0", "b:1", "c:0", "c:1"]
    make([c], QUIET)
    assert len(Word.made) == 6


def test_equal_recipes_are_one_step_whatever_else_the_studies_say(study):
    other = study.replace("encode.bootstrap", 7)
    assert stages(walk([Word(study, "a"), Word(other, "a"), Word(study, "b")])) == ["a", "b"]


def test_a_key_changes_the_hash_and_what_is_required_does_not(study):
    a = Word(study, "a")
    assert Word(study, "b", key="1").hash != Word(study, "b").hash
    assert Word(study, "b", first=(a,)).hash == Word(study, "b").hash
    assert Word(study, "b", given=(a,)).hash != Word(study, "b").hash


def test_what_is_needed_only_in_between_is_made_for_something_only(study):
    between = Word(study, "between", between=True)
    end = Word(study, "end", given=(between,))
    make([end], QUIET)
    assert stages(superfluous([end])) == ["between"]
    between.artefact.clear()
    again = Word(study, "end", given=(Word(study, "between", between=True),))
    assert dict((step.name, state) for step, state in states([again])) == {
        "between": "not needed",
        "end": "done",
    }
    assert make([again], QUIET)[0].done
    assert Word.made.count("between:0") == 1
    end.artefact.clear()
    make([again], QUIET)
    assert Word.made.count("between:0") == 2


def test_a_missing_result_between_finished_ones_is_made_again(study):
    a = Word(study, "a")
    b = Word(study, "b", given=(a,))
    make([b], QUIET)
    a.artefact.clear()
    assert stages(unfinished([b])) == ["a"]


def test_optional_steps_are_inputs_where_they_are_finished_and_are_never_made(study):
    extra = Word(study, "extra")
    without = Word(study, "end", extra=(extra,))
    make([without], QUIET)
    assert "extra:0" not in Word.made
    make([extra], QUIET)
    with_extra = Word(study, "end", extra=(extra,))
    assert stages(walk([with_extra])) == ["end"]
    assert with_extra.hash != without.hash
    assert make([with_extra], QUIET)[0].file("0.txt").read_text() == "extra end"


def test_what_a_finished_option_was_made_from_is_not_asked_for(study):
    extra = Word(study, "extra", given=(Word(study, "source"),))
    make([extra], QUIET)
    Word(study, "source").artefact.clear()
    make([Word(study, "end", extra=(extra,))], QUIET)
    assert Word.made.count("source:0") == 1


def test_a_damaged_option_is_made_again(study, monkeypatch):
    extra = Word(study, "extra")
    make([extra], QUIET)
    monkeypatch.setattr("phosphene.disk._digests", {})
    damaged(extra)
    (end,) = make([Word(study, "end", extra=(extra,))], QUIET)
    assert end.file("0.txt").read_text() == "extra end"


def test_steps_of_one_group_are_made_in_one_pass_after_all_their_sources(study):
    early = Word(study, "early")
    late = Word(study, "late", given=(early,))
    one = Word(study, "one", passes="pass")
    two = Word(study, "two", given=(late,), passes="pass")
    end = Word(study, "end", given=(one, two))
    assert [stages(group) for group in grouped(walk([end]))] == [
        ["early"],
        ["late"],
        ["one", "two"],
        ["end"],
    ]
    make([end], QUIET)
    assert [text for text in Word.made if text.startswith(("one", "two"))] == [
        "one+two:0",
        "one+two:1",
    ]


def test_a_pass_makes_only_what_is_missing(study):
    one = Word(study, "one", passes="pass")
    make([one], QUIET)
    two = Word(study, "two", passes="pass")
    make([one, two], QUIET)
    assert Word.made[-2:] == ["two:0", "two:1"]


def test_nothing_is_written_when_a_later_step_refuses(study):
    a = Word(study, "a")
    with pytest.raises(PhospheneError, match="refuses"):
        make([Word(study, "b", given=(a,), refused=True)], QUIET)
    assert not list(study.root.iterdir())


def test_force_makes_the_roots_anew_and_nothing_else(study):
    between = Word(study, "between", between=True)
    a = Word(study, "a", given=(between,))
    b = Word(study, "b", given=(a,))
    make([b], QUIET)
    make([b], QUIET, force=True)
    assert Word.made[6:] == ["b:0", "b:1"]
    between.artefact.clear()
    make([a], QUIET, force=True)
    assert Word.made[8:] == ["between:0", "between:1", "a:0", "a:1"]


def test_a_refused_step_loses_nothing_when_it_is_forced(study):
    make([Word(study, "a")], QUIET)
    with pytest.raises(PhospheneError):
        make([Word(study, "a", refused=True)], QUIET, force=True)
    assert Word(study, "a").artefact.done


def damaged(step):
    """Change a byte of a file and set its times back, as a bad disk would."""
    import os

    path = step.artefact.file("0.txt")
    times = path.stat()
    path.write_bytes(b"x" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_only_what_is_read_is_compared_by_checksums(study, monkeypatch):
    a = Word(study, "a")
    b = Word(study, "b", given=(a,))
    make([b], QUIET)
    # this process has read the file before: another one would not know it
    monkeypatch.setattr("phosphene.disk._digests", {})
    damaged(a)
    assert unfinished([b], verify=True) == []
    b.artefact.clear()
    assert stages(unfinished([b], verify=True)) == ["a", "b"]
    assert stages(unfinished([b])) == ["b"]


def test_a_changed_file_is_seen_by_its_times(study):
    a = Word(study, "a")
    make([a], QUIET)
    path = a.artefact.file("0.txt")
    path.write_text("b")
    assert not a.artefact.seems_done
    path.write_text("a")
    assert a.artefact.seems_done


def test_a_step_travels_without_what_it_has_cached(study):
    step = Word(study, "b", given=(Word(study, "a"),))
    step.artefact  # noqa: B018
    copy = pickle.loads(pickle.dumps(step))
    assert set(vars(copy)) < set(vars(step))
    assert copy.hash == step.hash


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=1, max_size=12))
def test_every_group_comes_after_its_sources(edges):
    study = Study.from_dict({})
    steps: list[Word] = []
    for number, (source, group) in enumerate(edges):
        sources = (steps[source % len(steps)],) if steps and group else ()
        passes = "pass" if group == 3 else ""
        steps.append(Word(study, f"w{number}", given=sources, passes=passes))
    seen: set[str] = set()
    for group in grouped(walk(steps)):
        for step in group:
            assert {source.hash for source in step.sources} <= seen
        seen |= {step.hash for step in group}
    assert len(seen) == len(walk(steps))


def test_a_pass_is_counted_once():
    costs = [Cost(1, 1.0, 2.0, 3.0, 100.0), Cost(1, 1.0, 2.0, 5.0, 100.0)]
    assert of_group(costs) == Cost(2, 2.0, 4.0, 5.0, 100.0)
    assert total(costs) == Cost(2, 2.0, 4.0, 5.0, 200.0)


def test_force_leaves_what_comes_after_a_failure(study, monkeypatch):
    words = [Word(study, name) for name in "abc"]
    make(words, QUIET)
    make_part = Word.make_part

    def fails_at_b(self, part, index, compute):
        if self.word == "b":
            raise PhospheneError("b cannot be made")
        make_part(self, part, index, compute)

    monkeypatch.setattr(Word, "make_part", fails_at_b)
    with pytest.raises(PhospheneError, match="b cannot"):
        make(words, QUIET, force=True)
    assert [word.artefact.done for word in words] == [True, True, True]


def test_a_finished_result_that_lacks_a_file_is_damaged(study):
    a = Word(study, "a")
    (artefact,) = make([a], QUIET)
    artefact.file("1.txt").unlink()
    assert states([a]) == [(a, "damaged")]
    assert states([Word(study, "b")])[0][1] == "to do"
    make([Word(study, "a")], QUIET)
    assert states([Word(study, "a")], again={a.hash})[0][1] == "to do"


@pytest.mark.parametrize("compute", [QUIET, Compute(jobs=2, progress=False)])
def test_a_process_that_lives_on_looks_at_files_again(study, tmp_path, compute):
    """As a call in a notebook, and as the workers that loky keeps."""
    path = tmp_path / "input.txt"
    for text in ("before", "after"):
        path.write_text(text)
        begin_command()
        (artefact,) = make([Copy(study, str(path))], compute)
        assert {artefact.file(f"{index}.txt").read_text() for index in (0, 1)} == {text}
