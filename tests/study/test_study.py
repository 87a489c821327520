"""Study files: what is read, what is refused and in which words, what is hashed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phosphene.cli.options import Options
from phosphene.errors import PhospheneError
from phosphene.pipeline.recipe import Recipe
from phosphene.seeds import rng
from phosphene.study import Compute, Study, parse_set


def test_a_saved_study_is_complete_and_comes_back_equal(tmp_path: Path) -> None:
    study = (
        Study().replace("decode.c.rois", ["ventral", "early"]).replace("reconstruct.guidance", 7)
    )
    study.save(tmp_path / "one" / "study.toml")
    again = Study.load(tmp_path / "one" / "study.toml", root=tmp_path / "results")
    assert again == study
    assert again.root == tmp_path / "results"
    text = (tmp_path / "one" / "study.toml").read_text()
    assert "permutations = 2000" in text and 'root = ""' in text and "runs" not in text


def test_results_are_kept_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python as on the command line, wherever both are called from."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "s.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    for path in ("demo/s.toml", tmp_path / "demo" / "s.toml"):
        assert (
            Study.load(path).root == tmp_path / "demo" / "runs" == Options().study(Path(path)).root
        )
    assert Study.load("demo/s.toml", root="elsewhere").root == tmp_path / "elsewhere"


def test_an_empty_file_is_the_default_study(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert Study.load(tmp_path / "empty.toml") == Study()
    np.testing.assert_allclose(Study().decode.alphas, np.logspace(0, 6, 13), rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[decode]\nalpha = [1.0]",
            "unknown setting 'decode.alpha'; did you mean 'decode.alphas'?",
        ),
        (
            "alphas = [1.0]",
            "unknown setting 'alphas'; did you mean 'decode.alphas' or 'encode.alphas'?",
        ),
        ("[decod]\ncv = 3", "unknown setting 'decod'; did you mean 'decode'?"),
        (
            "[decode.z]\nroi = ['early']",
            "unknown setting 'decode.z.roi'; did you mean 'decode.z.rois'?",
        ),
        ("root = 'x'", "unknown setting 'root'; did you mean 'data.root'?"),
        (
            "qqqq = 1",
            "unknown setting 'qqqq'; known here: name, seed, data, decode, encode, evaluate, model",
        ),
        ("[decode]\ncv = 'five'", "'decode.cv' must be a whole number, found 'five'"),
        ("[decode]\ncv = true", "'decode.cv' must be a whole number, found True"),
        ("[decode]\ncv = 1", "'decode.cv' must be at least 2, found 1"),
        ("[decode]\npreset = 'papr'", "'decode.preset' is 'papr'; choose 'default' or 'paper'"),
        (
            "[reconstruct]\nmodes = 'zc'",
            "'reconstruct.modes' must be a list such as [...], found 'zc'",
        ),
        ("[reconstruct]\nmodes = ['zz']", "'reconstruct.modes' is 'zz'; choose 'z' or 'c' or 'zc'"),
        (
            "[reconstruct]\nstrength = 1.5",
            "'reconstruct.strength' must be at least 0 and at most 1, found 1.5",
        ),
        ("[decode]\nalphas = [nan]", "'decode.alphas' must be above 0, found nan"),
        ("[data]\nsubjects = []", "'data.subjects' must not be empty"),
        ("data = 3", "'data' must be a table, found 3"),
        ("seed = ", "not valid TOML: "),
    ],
)
def test_a_bad_study_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(PhospheneError) as caught:
        Study.load(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PhospheneError, match="no such study file"):
        Study.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "bytes.toml"):
        with pytest.raises(PhospheneError, match="could not be read as a text file|is a folder"):
            Study.load(path)


def test_replace_makes_another_study_and_checks_it() -> None:
    study = Study()
    other = study.replace("decode.c.rois", ["early"])
    assert (study.decode.c.rois, other.decode.c.rois) == (("ventral",), ("early",))
    assert study.replace("data.simulate.enabled", True).data.simulate.enabled
    with pytest.raises(PhospheneError, match="did you mean 'decode.c.rois'"):
        study.replace("decode.c.roi", [])
    with pytest.raises(PhospheneError, match="did you mean 'decode.cv'"):
        study.replace("decod.cv", 3)
    with pytest.raises(PhospheneError, match="unknown setting 'seed.x'"):
        study.replace("seed.x", 3)


def test_settings_are_those_that_differ_from_the_defaults() -> None:
    study = Study.from_dict(
        {"decode": {"cv": 5, "grouped": False, "c": {"rois": ["early"]}, "z": {"rois": ["early"]}}}
    )
    assert study.settings("decode") == {"grouped": False, "c": {"rois": ["early"]}}
    assert study.settings("decode.c") == {"rois": ["early"]}
    assert study.settings("decode", "cv", "grouped") == {"grouped": False}
    assert Study().settings("decode") == Study().settings("data") == {}
    assert Study().replace("data.root", "/there").settings("data") == {}
    with pytest.raises(KeyError, match="cvs"):
        study.settings("decode", "cvs")


def test_writing_a_default_out_does_not_change_a_hash() -> None:
    def name(study: Study) -> str:
        return Recipe("decode", "subj01", 1, study.settings("decode"), {"data": "f"}).hash

    whole = Study.from_dict(Study().to_dict())
    assert name(whole) == name(Study())
    assert name(Study().replace("reconstruct.guidance", 2)) == name(Study())
    assert name(Study().replace("decode.cv", 4)) != name(Study())


def test_data_root_is_relative_to_the_study_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for given, expected in (
        ("nsd", tmp_path / "nsd"),
        ("/nsd", Path("/nsd")),
        ("~/nsd", Path("/home/someone/nsd")),
    ):
        (tmp_path / "s.toml").write_text(f"[data]\nroot = '{given}'")
        study = Study.load(tmp_path / "s.toml")
        assert study.data_root == expected
        assert study.replace("seed", 3).data_root == expected
    with pytest.raises(PhospheneError, match="'data.root' is not set"):
        _ = Study().data_root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("decode.cv=3", ("decode.cv", 3)),
        ("decode.c.rois = ['a', 'b']", ("decode.c.rois", ["a", "b"])),
        ("model.name=bundled", ("model.name", "bundled")),
        ("data.root=/a/b=c", ("data.root", "/a/b=c")),
        ("decode.leave_out=", ("decode.leave_out", "")),
        ("decode.grouped=false", ("decode.grouped", False)),
    ],
)
def test_parse_set(text: str, expected: tuple[str, object]) -> None:
    assert parse_set(text) == expected


def test_parse_set_without_a_value() -> None:
    with pytest.raises(PhospheneError, match="expected key=value"):
        parse_set("decode.cv")


def test_compute_is_checked() -> None:
    with pytest.raises(PhospheneError, match="unknown backend 'mpi'"):
        Compute(backend="mpi")
    with pytest.raises(PhospheneError, match="'jobs' must be at least 0, found -1"):
        Compute(jobs=-1)


def test_rng_belongs_to_its_keys_alone() -> None:
    first = rng(0, "subj01", 7, 2).standard_normal(3)
    rng(0, "other").standard_normal(10)
    np.testing.assert_array_equal(first, rng(0, "subj01", np.int64(7), 2).standard_normal(3))
    others = [
        rng(1, "subj01", 7, 2),
        rng(0, "subj01", "7", 2),
        rng(0, "subj017", 2),
        rng(0, "subj01", 2, 7),
    ]
    assert all(not np.array_equal(first, other.standard_normal(3)) for other in others)
    # the stream itself: pictures of old runs hang on it
    assert rng(0, "a", 1).integers(0, 100, 5).tolist() == [32, 78, 95, 50, 84]
