"""Every file of a small NSD folder damaged in turn: a sentence that names it, or a correct result;
masks are drawn.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phosphene.data.nsd import NSD
from phosphene.data.simulated.simulate import simulate
from phosphene.data.simulated.writing import write_hdf5, write_nifti
from phosphene.errors import PhospheneError

pytestmark = pytest.mark.filterwarnings("ignore:.*voxels have no data")
FOLDER = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
FUNCTIONAL = "nsddata/ppdata/subj01/func1pt8mm"
EXPERIMENT = "nsddata/experiments/nsd"
STIMULI = "nsddata_stimuli/stimuli/nsd"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(
        tmp_path_factory.mktemp("nsd") / "nsd",
        images_shared=8,
        images_own=40,
        sessions=3,
        noise=0.2,
        nifti=True,
        picture_size=32,
        voxel_size=9.0,
    )


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "nsd"))


def use_everything(root: Path) -> None:
    """Read all that a study reads."""
    data = NSD(root, "subj01")
    data.betas(["early", "ventral"])
    data.voxels("brain")
    image = data.trials["image"].tolist()[:3]
    data.images(image), data.captions(image), data.categories(image), data.segmentation(image, 32)


def change_nifti(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine), path)


def change_design(root: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    path = root / EXPERIMENT / "nsd_expdesign.mat"
    design = {
        name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")
    }
    scipy.io.savemat(
        path, design | {name: change(design[name]) for name, change in changes.items()}
    )


def change_hdf5(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = root / FOLDER / "betas_session02.hdf5"
    with h5py.File(path) as file:
        values = change(file["betas"][:])
    with h5py.File(path, "w") as file:
        file["betas"] = values


FILES = [
    f"{FOLDER}/betas_session02.hdf5",
    f"{FUNCTIONAL}/brainmask.nii.gz",
    f"{FUNCTIONAL}/roi/streams.nii.gz",
    f"{EXPERIMENT}/nsd_expdesign.mat",
    f"{EXPERIMENT}/nsd_stim_info_merged.csv",
    f"{STIMULI}/nsd_stimuli.hdf5",
    f"{STIMULI}/annotations/captions_train2017.json",
    f"{STIMULI}/annotations/instances_train2017.json",
    f"{FOLDER}/ncsnr.nii.gz",
    "nsddata/ppdata/subj01/behav/responses.tsv",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_damaged_files_are_named(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = (copy / name).read_bytes()
    bad = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "garbage": b"\x93garbage\n" * 200,
    }
    path.write_bytes(bad[damage])
    with pytest.raises(PhospheneError, match=re.escape(path.name)):
        use_everything(copy)


@pytest.mark.parametrize(
    "name", [name for name in FILES if not name.endswith(("ncsnr.nii.gz", "responses.tsv"))]
)
def test_missing_files_are_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    if name.endswith("session02.hdf5"):
        use_everything(copy)  # the NIfTI file of the same session is there
        (copy / name.replace(".hdf5", ".nii.gz")).unlink()
        assert NSD(copy, "subj01").sessions == (1, 3)
    elif name.endswith("streams.nii.gz"):
        with pytest.raises(PhospheneError, match="no region 'early'"):
            use_everything(copy)
    else:
        with pytest.raises(PhospheneError, match=re.escape(Path(name).name)):
            use_everything(copy)


@pytest.mark.parametrize(
    "name", ["nsddata/ppdata/subj01/behav/responses.tsv", f"{FOLDER}/ncsnr.nii.gz"]
)
def test_what_only_helps_may_be_missing(copy: Path, name: str) -> None:
    (copy / name).unlink()
    use_everything(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b.astype("<f4"), "float32"),
        (lambda b: b[:-1], "trials of type"),
        (lambda b: np.concatenate([b, b[:1]]), "trials of type"),
        (lambda b: b.transpose(0, 3, 2, 1), "on a grid of"),
    ],
)
def test_betas_of_another_type_or_shape(
    copy: Path, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    change_hdf5(copy, change)
    with pytest.raises(PhospheneError, match=f"betas_session02.hdf5: .*{said}"):
        NSD(copy, "subj01").betas("early")


def test_float_and_scaled_nifti_betas_are_refused(copy: Path) -> None:
    for path in (copy / FOLDER).glob("*.hdf5"):
        path.unlink()
    change_nifti(copy / FOLDER / "betas_session01.nii.gz", lambda values: values.astype(np.float32))
    with pytest.raises(PhospheneError, match="betas_session01.nii.gz: .*float32"):
        NSD(copy, "subj01").betas("early")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"masterordering": lambda m: m - 1}, "counts from 0"),
        ({"subjectim": lambda m: m - 1}, "subjectim holds|plans nsdId"),
        ({"masterordering": lambda m: m[:, ::-1]}, "plans nsdId"),
        ({"masterordering": lambda m: np.roll(m, 1, axis=1)}, "plans nsdId"),
        ({"stimpattern": lambda m: m[:2]}, "expected equal numbers"),
    ],
)
def test_designs_that_do_not_fit(
    copy: Path, changes: dict[str, Callable[[np.ndarray], np.ndarray]], said: str
) -> None:
    change_design(copy, **changes)
    with pytest.raises(PhospheneError, match=said):
        _ = NSD(copy, "subj01").trials


def test_zero_based_ids_in_the_log_are_refused(copy: Path) -> None:
    path = copy / "nsddata/ppdata/subj01/behav/responses.tsv"
    log = pd.read_csv(path, sep="\t")
    log.assign(**{"73KID": log["73KID"] - 1}).to_csv(path, sep="\t", index=False, na_rep="NaN")
    with pytest.raises(PhospheneError, match="responses.tsv: row 2 says"):
        _ = NSD(copy, "subj01").trials


def test_a_session_that_the_design_does_not_plan(copy: Path) -> None:
    shutil.copy(copy / FOLDER / "betas_session03.hdf5", copy / FOLDER / "betas_session41.hdf5")
    with pytest.raises(
        PhospheneError, match="betas_session41.hdf5: nsd_expdesign.mat plans 3 sessions"
    ):
        _ = NSD(copy, "subj01").trials


def test_ncsnr_that_is_nan_stays_nan(copy: Path) -> None:
    change_nifti(copy / FOLDER / "ncsnr.nii.gz", lambda values: np.full_like(values, np.nan))
    data = NSD(copy, "subj01")
    assert data.voxels("early")["ncsnr"].isna().all() and data.betas("early").shape[1] == len(
        data.voxels("early")
    )


def test_regions_by_atlas_label_number_and_hemisphere(root: Path, copy: Path) -> None:
    data = NSD(root, "subj01")
    streams = np.asanyarray(nib.load(root / FUNCTIONAL / "roi/streams.nii.gz").dataobj)
    left = np.asanyarray(nib.load(root / FUNCTIONAL / "roi/lh.streams.nii.gz").dataobj)
    for name in ("early", "streams/early", "streams/1"):
        assert np.array_equal(data.regions.select(name), np.argwhere(streams == 1))
    assert np.array_equal(data.regions.select("streams"), np.argwhere(streams > 0))
    assert np.array_equal(data.regions.select("lh.early"), np.argwhere(left == 1))
    both = data.regions.select(["lh.streams/5", "rh.ventral"])
    assert np.array_equal(both, data.regions.select("ventral")) and 0 < (left == 5).sum() < len(
        both
    )
    with pytest.raises(PhospheneError, match="did you mean 'lh.ventral'"):
        data.regions.select("lh.ventrl")
    write_nifti(
        copy / FUNCTIONAL / "roi/HCP_MMP1.nii.gz",
        np.where(streams > 0, streams + 3, -1.0),
        data.affine,
    )
    shutil.copy(copy / FUNCTIONAL / "roi/streams.nii.gz", copy / FUNCTIONAL / "roi/streams2.nii.gz")
    label = "nsddata/freesurfer/subj01/label"
    shutil.copy(copy / label / "streams.mgz.ctab", copy / label / "streams2.mgz.ctab")
    more = NSD(copy, "subj01")
    assert np.array_equal(more.regions.select("HCP_MMP1/4"), np.argwhere(streams == 1))
    with pytest.raises(
        PhospheneError, match="'early' is a region of streams and of streams2; write streams/early"
    ):
        more.betas("early")
    assert len(more.voxels("streams2/early")) == len(data.voxels("early"))


def test_uncovered_voxels_can_stay_as_nan_and_are_averaged_with_counts(root: Path) -> None:
    from phosphene.data.trials import average_repeats

    data = NSD(root, "subj01")
    betas = data.betas("brain", "session", uncovered="nan")
    voxels = data.voxels("brain", uncovered="nan")
    assert betas.shape[1] == len(voxels) > len(data.voxels("brain"))
    lost = np.isnan(betas).any(0) & ~np.isnan(betas).all(0)
    sessions = data.trials["session"].to_numpy()
    assert lost.any() and set(sessions[np.isnan(betas[:, lost]).all(1)]) == {2}
    averages = average_repeats(betas, data.trials["image"].to_numpy())
    expected = pd.DataFrame(betas).groupby(data.trials["image"].to_numpy()).agg(["mean", "count"])
    np.testing.assert_allclose(averages.betas, expected.xs("mean", axis=1, level=1), atol=1e-5)
    np.testing.assert_array_equal(averages.counts, expected.xs("count", axis=1, level=1))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.permutations([3, 4, 5]),
    n_trials=st.integers(1, 7),
    seed=st.integers(0, 2**16),
    share=st.floats(0.02, 1),
    chunked=st.booleans(),
)
def test_any_mask_reads_as_a_plain_reader_does(
    tmp_path: Path, shape: list[int], n_trials: int, seed: int, share: float, chunked: bool
) -> None:
    from phosphene.data.nsd.betas import Betas

    random = np.random.default_rng(seed)
    values = random.integers(-32768, 32767, (n_trials, *shape)).astype("<i2")
    mask = random.random(shape) < share
    mask[0, -1, 1] = True
    hdf5 = tmp_path / f"{seed}.hdf5"
    nifti = tmp_path / f"{seed}.nii.gz"
    if chunked:
        write_hdf5(hdf5, values)
    else:
        with h5py.File(hdf5, "w") as file:
            file.create_dataset(
                "betas", data=values.transpose(0, 3, 2, 1), chunks=True, compression="gzip"
            )
    write_nifti(nifti, values.transpose(1, 2, 3, 0), np.eye(4), 4 / 3)
    for path in (hdf5, nifti):
        betas = Betas.open(path)
        betas.check(n_trials, tuple(shape))
        assert np.array_equal(betas.read(np.argwhere(mask)), values[:, mask])


@pytest.mark.parametrize("sessions", [(1,), (3,), (1, 3), (2, 3)])
def test_any_sessions_are_rows_of_all(root: Path, sessions: tuple[int, ...]) -> None:
    whole = NSD(root, "subj01")
    some = NSD(root, "subj01", sessions=sessions)
    rows = whole.trials["session"].isin(sessions).to_numpy()
    pd.testing.assert_frame_equal(some.trials, whole.trials[rows].reset_index(drop=True))
    kept = "early"
    assert np.array_equal(
        some.betas(kept, "none", "nan"), whole.betas(kept, "none", "nan")[rows], equal_nan=True
    )
