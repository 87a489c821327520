"""U-Net features of drawn scenes: seconds, memory and disk of one pass, and of the principal
components.

Three steps (early, middle, late) of five layers (two before the bottleneck, it, two after it;
paper, section E), in one pass over all scenes with the bundled model, through the stage that
studies use. The stated bound of the pass is `IMAGES_PER_PART` x kept numbers x 2 bytes for each
feature, twice while they are written, and one batch of activations and pictures; it does not know
the number of scenes, so the run is made at a quarter of them as well. Components of every feature
are compared with scikit-learn's on the same rows. JSON goes to stdout and to
``results/features.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_facts, peak_memory

LAYERS = ("down0", "down1", "mid", "up0", "up2")
STRENGTH = 0.8
SUBJECT = "subj01"
SHARED = 0.05  # share of the scenes that are test pictures
SESSIONS = 4


def main() -> None:
    """Draw scenes, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument(
        "--steps", type=int, default=50, help="of the whole schedule; 0.8 of them are made"
    )
    parser.add_argument("--components", type=int, default=500)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--folder",
        type=Path,
        help="where data and features go and stay; by default a temporary one",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    found: dict[str, Any] = {
        "machine": machine_facts("numpy", "torch", "diffusers", "scikit-learn")
    }
    with tempfile.TemporaryDirectory() as temporary:
        for part in (4, 1):
            folder = (args.folder or Path(temporary)) / str(args.scenes // part)
            arguments = (
                folder,
                args.scenes // part,
                args.steps,
                args.components,
                (args.device, args.threads),
            )
            found[f"{args.scenes // part} scenes"] = in_fresh_process(measure, *arguments)
        found["components"] = in_fresh_process(compare, *arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    (args.out / "features.json").write_text(text + "\n")
    print(text)


def in_fresh_process(work: Any, *arguments: Any) -> Any:
    """Call in a process that has done nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def make_study(folder: Path, scenes: int, steps: int) -> Any:
    """A study of simulated data in a folder."""
    import phosphene as ph

    shared = int(scenes * SHARED)
    simulated = {
        "enabled": True,
        "images_shared": shared,
        "images_own": scenes - shared,
        "repeats": 2,
    }
    values = {
        "data": {"root": "data", "simulate": simulated | {"sessions": SESSIONS}},
        "reconstruct": {"steps": steps},
    }
    return ph.Study.from_dict(values, root=folder / "runs", folder=folder)


def feature_names(steps: int) -> list[str]:
    """Five layers at early, middle and late steps."""
    made = int(steps * STRENGTH)
    return [
        f"unet/{layer}@{STRENGTH}/step={k}"
        for k in (max(1, made // 8), made // 2, made)
        for layer in LAYERS
    ]


def component_steps(study: Any, names: list[str], components: int) -> list[Any]:
    """The steps that reduce features to principal components."""
    from phosphene.features.names import parsed
    from phosphene.steps.reduce import Reduce

    return [Reduce(study, SUBJECT, feature, components) for feature in parsed(names)]


def measure(
    folder: Path, scenes: int, steps: int, components: int, how: tuple[str, int]
) -> dict[str, Any]:
    """Seconds and memory of the pass and of the components; `how` is device and threads."""
    from phosphene.pipeline.graph import make
    from phosphene.steps.extract import IMAGES_PER_PART, Extract
    from phosphene.steps.features import feature_steps
    from phosphene.steps.subject import load_model
    from phosphene.study import Compute

    study = make_study(folder, scenes, steps)
    names = feature_names(steps)
    compute = Compute(how[0], threads=how[1])
    make([Extract(study, SUBJECT, "c")], compute)  # also draws the scenes
    # libraries, kernels
    few = feature_steps(make_study(folder / "first", 40, 5), SUBJECT, feature_names(5))
    small = make(few, compute)
    print(
        f"{scenes} scenes: {len(small)} features, {load_model('bundled', how[0]).device}",
        file=sys.stderr,
    )
    with peak_memory() as memory:
        started = time.perf_counter()
        busy = time.process_time()
        made = make(feature_steps(study, SUBJECT, names), compute)
        seconds = time.perf_counter() - started
        busy = time.process_time() - busy
    widths = [artefact.array("features").shape[1] for artefact in made]
    with peak_memory() as memory_reduced:
        started = time.perf_counter()
        reduced = make(component_steps(study, names, components), compute)
        seconds_reduced = time.perf_counter() - started
    rows = sum(widths) * IMAGES_PER_PART * 2
    # float32 activations of one batch: both halves of guidance; what a block takes, gives, and one
    # between
    batch = load_model("bundled", how[0]).batch() * 2 * 4 * 3 * max(widths)
    return {
        "features": len(names),
        "steps_made": int(steps * STRENGTH),
        "threads": how[1],
        "cpu_seconds": round(busy, 1),
        "seconds": round(seconds, 1),
        "ms_per_scene_and_step": round(1000 * seconds / scenes / int(steps * STRENGTH), 3),
        "mib": memory,
        "mib_stated_above_base": round((2 * rows + batch) / 2**20, 1),
        "mib_of_all_at_full_width_float16": round(sum(widths) * scenes * 2 / 2**20, 1),
        "mib_on_disk": round(sum(size(artefact.path) for artefact in made) / 2**20, 1),
        "seconds_components": round(seconds_reduced, 1),
        "mib_components": memory_reduced,
        "mib_on_disk_components": round(
            sum(size(artefact.path) for artefact in reduced) / 2**20, 1
        ),
    }


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def compare(
    folder: Path, scenes: int, steps: int, components: int, how: tuple[str, int]
) -> dict[str, Any]:
    """Largest angle between our components and those of scikit-learn on the same training rows."""
    from scipy.linalg import subspace_angles
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    from phosphene.data.trials import image_ids
    from phosphene.pipeline.graph import make
    from phosphene.steps.subject import dataset
    from phosphene.study import Compute

    study = make_study(folder, scenes, steps)
    names = feature_names(steps)
    compute = Compute(how[0], threads=how[1])
    data = dataset(study, SUBJECT)
    train = np.isin(image_ids(data), data.trials.loc[data.trials["split"] == "train", "image"])
    found: dict[str, Any] = {}
    # the middle step: a full decomposition takes long
    for name in names[len(LAYERS) : 2 * len(LAYERS)]:
        (step,) = component_steps(study, [name], components)
        source, ours = make([step.source, step], compute)
        rows = source.array("features")[:][train].astype(np.float64)
        started = time.perf_counter()
        with threadpool_limits(how[1]):
            theirs = PCA(ours.array("features").shape[1], svd_solver="full").fit(rows)
        seconds = time.perf_counter() - started
        axes = (rows - ours.array("mean")[:]).T @ ours.array("features")[:][train].astype(
            np.float64
        )
        found[name] = {
            "width": rows.shape[1],
            "subspace_angle": float(subspace_angles(axes, theirs.components_.T).max()),
            "variance_kept": round(float(ours.array("ratio")[:].sum()), 4),
            "seconds_sklearn_full_svd": round(seconds, 1),
        }
    return found


if __name__ == "__main__":
    main()
