"""Make the bundled model and its judge: ``python training/train.py``.

Every part that has not ended yet is trained, from its last checkpoint if it has one; then
everything is measured on held-out scenes and the figures are written to ``figures.json`` and into
the model card.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from common import Scenes, load_config

PARTS = ("autoencoder", "text", "judge", "unet")


def work(rank: int, workers: int, part: str, config: dict[str, Any]) -> None:
    """Train one part as worker `rank`; one thread on a core of its own, which on few cores beats
    many.
    """
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {rank % (os.cpu_count() or 1)})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(config["port"] + PARTS.index(part)))
    dist.init_process_group("gloo", rank=rank, world_size=workers)
    importlib.import_module(part).train(config)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=[*PARTS, "measure"], help="which parts, by default all in order"
    )
    parser.add_argument("--config", default=Path(__file__).with_name("config.toml"))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    folder = Path(config["folder"])
    Scenes(config).paint()  # before the workers start: one file for all of them
    for part in arguments.parts:
        if part == "measure":
            importlib.import_module("measure").measure(config)
        elif not (folder / f"{part}.done").exists():
            torch.multiprocessing.spawn(
                work, (arguments.workers, part, config), nprocs=arguments.workers
            )
            (folder / f"{part}.done").touch()


if __name__ == "__main__":
    main()
