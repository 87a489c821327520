"""The table of data sources: which kind of data lies in a folder, and for whom."""

from pathlib import Path

import pytest

from phosphene.data.sources import SOURCES, kind_of, source, subjects_of
from phosphene.errors import PhospheneError
from phosphene.study import Study


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize(
    ("paths", "kind", "subjects"),
    [
        (["nsddata/x", "nsddata_betas/ppdata/subj03/x"], "nsd", ["subj03"]),
        (["derivatives/glmsingle-tedana/sub-03/x"], "laion", ["sub-03"]),
        (["trials.csv"], "arrays", ["subj01"]),
        (["anna/trials.csv", "ben/trials.csv"], "arrays", ["anna", "ben"]),
        (["bold.nii.gz"], "haxby", ["subj1"]),
        (["bold.nii.gz", "notes/trials.csv"], "haxby", ["subj1"]),
        (["haxby2001/subj2/x", "haxby2001/subj4/x"], "haxby", ["subj2", "subj4"]),
        (["haxby2001/subj2/x", ".Trashes/subj1/x", "__MACOSX/subj3/x"], "haxby", ["subj2"]),
        (["ben/trials.csv", ".old/trials.csv", "__MACOSX/trials.csv"], "arrays", ["ben"]),
    ],
)
def test_folders_are_recognised(tmp_path, paths, kind, subjects):
    root = make(tmp_path, *paths)
    assert kind_of(root) == kind and subjects_of(root, kind) == subjects


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(PhospheneError, match="no data that phosphene knows; expected nsddata"):
        kind_of(make(tmp_path, "pictures/cat.png", ".old/trials.csv", "__MACOSX/trials.csv"))


def test_every_kind_that_a_study_can_name_has_a_source():
    """And the options of each are settings."""
    for kind in SOURCES:
        study = Study.from_dict({"data": {"kind": kind}})
        assert all(hasattr(study.data, name) for name in source(kind).options)
