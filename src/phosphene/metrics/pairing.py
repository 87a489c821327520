"""Which reconstruction belongs to which original, by name or by order."""

from __future__ import annotations

from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import SAMPLE, Picked, PictureSet
from phosphene.metrics.tensors import first
from phosphene.models.preparing import Pictures


def match(
    recons: PictureSet, originals: PictureSet, by_order: bool = False
) -> tuple[PictureSet, PictureSet]:
    """Pair reconstructions with originals, by name; by order where one of them has no names or
    `by_order` says so.

    Returns
    -------
    (PictureSet, PictureSet)
        Both in the order of the originals and under their names; the originals with one sample.

    Raises
    ------
    PhospheneError
        Names the pictures that are missing, extra, or differently named, and says how to go on.
    """
    if len(originals.samples) > 1 or sorted(recons.flat().names) == sorted(originals.flat().names):
        originals = originals.flat()
    if len(originals.samples) > 1:
        raise PhospheneError(
            f"{originals.source}: found {len(originals.samples)} samples of each original, "
            "expected one; "
            "is this the folder of the reconstructions?"
        )
    if by_order or recons.ordered or originals.ordered:
        return _by_order(recons, originals)
    wanted = set(originals.names)
    if len(wanted & set(recons.flat().names)) > len(wanted & set(recons.names)):
        recons = recons.flat()
    elif recons.files and len(recons.samples) == 1:
        _refuse_incomplete(recons, wanted)
    _refuse_unpaired(recons, originals)
    place = {name: k for k, name in enumerate(recons.names)}
    order = [place[name] for name in originals.names]
    samples: list[Pictures] = [Picked(sample, order) for sample in recons.samples]
    return PictureSet(recons.source, originals.names, samples, False, recons.notes), originals


def _by_order(recons: PictureSet, originals: PictureSet) -> tuple[PictureSet, PictureSet]:
    if len(recons.names) != len(originals.names) == len(recons.flat().names):
        recons = recons.flat()  # numbers at the ends of names are no samples then
    if len(recons.names) != len(originals.names):
        raise PhospheneError(
            f"{recons.source}: found {len(recons.names)} pictures where {originals.source} has "
            f"{len(originals.names)}; paired by order, both need the same number"
        )
    names = recons.names if originals.ordered else originals.names
    paired = PictureSet(recons.source, names, recons.samples, recons.ordered, recons.notes)
    return paired, PictureSet(
        originals.source, names, originals.samples, originals.ordered, originals.notes
    )


def _refuse_unpaired(recons: PictureSet, originals: PictureSet) -> None:
    missing = [name for name in originals.names if name not in set(recons.names)]
    extra = [name for name in recons.names if name not in set(originals.names)]
    if not missing and not extra:
        return
    if len(missing) == len(originals.names) and len(extra) == len(missing):
        raise PhospheneError(
            f"{recons.source} and {originals.source}: {len(extra)} pictures each and no name in "
            "common "
            f"({extra[0]}, ... and {missing[0]}, ...); give pairs the same name, or --by-order if "
            "both orders "
            "are known to agree"
        )
    parts = []
    if missing:
        parts.append(f"{len(missing)} originals have no reconstruction ({first(missing)})")
    if extra:
        parts.append(f"{len(extra)} reconstructions have no original ({first(extra)})")
    raise PhospheneError(
        f"{recons.source} and {originals.source}: {' and '.join(parts)}; every picture needs its "
        "partner of the same "
        "name, so add, rename or remove these"
    )


def _refuse_incomplete(recons: PictureSet, wanted: set[str]) -> None:
    """Samples were meant (the names without their numbers are originals), but some pictures lack
    some of them.
    """
    samples: dict[str, set[int]] = {}
    for name in recons.files:
        if (found := SAMPLE.fullmatch(name)) and found[1] in wanted:
            samples.setdefault(found[1], set()).add(int(found[2]))
    if not samples or wanted & set(recons.names):
        return
    every = set().union(*samples.values())
    lacking = [f"{name}_{k}" for name, there in samples.items() for k in sorted(every - there)]
    if lacking:
        raise PhospheneError(
            f"{recons.source}: found {len(every)} samples of some pictures, but {len(lacking)} "
            "are missing "
            f"({first(lacking)}); every picture needs the same samples"
        )
