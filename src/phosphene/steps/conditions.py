"""What a study compares: kinds of reconstruction, features and regions."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.data import Dataset
from phosphene.data.scans import Scans
from phosphene.errors import PhospheneError
from phosphene.methods import BRAIN, MODE_FEATURES, SHUFFLED, TRUE
from phosphene.study import Study

STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")


def richest_mode(study: Study) -> str:
    """The mode of the study that uses most features."""
    return max(study.reconstruct.modes, key=lambda mode: len(MODE_FEATURES[mode]))


def conditions(study: Study) -> list[tuple[str, str]]:
    """Every kind of reconstruction that is scored: (mode, source); baselines use the richest mode
    of the study.
    """
    # in one order, however they are listed
    modes = [mode for mode in MODE_FEATURES if mode in study.reconstruct.modes]
    sources = [name for name in (SHUFFLED, TRUE) if name in study.reconstruct.baselines]
    return [(mode, BRAIN) for mode in modes] + [(richest_mode(study), source) for source in sources]


def compared_rois(study: Study, data: Dataset) -> list[str]:
    """List the regions that are compared: those of `evaluate.rois`, or the usual ones that have
    voxels.
    """
    if study.evaluate.rois:
        return list(dict.fromkeys(study.evaluate.rois))
    empty = empty_rois(study, data)
    return [roi for roi in _usual_rois(study, data) if roi not in empty]


def _usual_rois(study: Study, data: Dataset) -> list[str]:
    """The streams where they are drawn, else all regions; and the study's own."""
    usual = [roi for roi in STREAMS if roi in data.rois] or list(data.rois)
    return list(dict.fromkeys([*usual, *own_rois(study)]))


def own_rois(study: Study) -> list[str]:
    """The regions that the study decodes from."""
    return [roi for feature in features_of(study) for roi in getattr(study.decode, feature).rois]


def is_optional_region(study: Study, rois: Sequence[str]) -> bool:
    """Whether these are one region that nobody chose: where it has no data, it is not compared."""
    chosen = (*study.evaluate.rois, *own_rois(study))
    return len(rois) == 1 and rois[0] not in chosen


def empty_rois(study: Study, data: Dataset) -> dict[str, str]:
    """Say why regions that nobody chose cannot be compared: no voxel, or a file that cannot be
    read.
    """
    reasons: dict[str, str] = {}
    if not isinstance(data, Scans):  # of other data all responses would have to be read
        return reasons
    for roi in _usual_rois(study, data):
        try:
            data.select(roi)
        except PhospheneError as error:
            if roi not in own_rois(study):
                reasons[roi] = str(error)
    return reasons


def features_of(study: Study) -> list[str]:
    """The features that the study's modes need."""
    return [
        f for f in ("z", "c") if any(f in MODE_FEATURES[mode] for mode in study.reconstruct.modes)
    ]
