"""Section E: the simulated data have the form of the real ones."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from phosphene.data.simulated.simulate import simulate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated") / "data"
    simulate(root, subjects=["subj01"], images_shared=2, images_own=4, sessions=1, repeats=1)
    return root


def test_e5_tables_of_labels_are_read_as_nsd_access_does(root):
    """It splits at single blanks, and reads them in fsaverage."""
    tables = sorted((root / "nsddata/freesurfer/fsaverage/label").glob("*.mgz.ctab"))
    assert [path.name for path in tables] == [
        "nsdgeneral.mgz.ctab",
        "prf-visualrois.mgz.ctab",
        "streams.mgz.ctab",
    ]
    table = pd.read_csv(tables[2], delimiter=" ", header=None, index_col=0)
    assert table[1].tolist()[:3] == ["Unknown", "early", "midventral"]
    own = root / "nsddata/freesurfer/subj01/label/streams.mgz.ctab"
    assert own.read_bytes() == tables[2].read_bytes()


def test_e5_only_instances_have_categories(root):
    annotations = next(root.glob("**/annotations"))
    for path in annotations.glob("*.json"):
        has_categories = "categories" in json.loads(path.read_text())
        assert has_categories == path.name.startswith("instances"), path.name
