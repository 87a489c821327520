"""Simulate a small subject and draw its noise ceiling on the flattened cortex, with two regions
outlined.

python examples/flatmap.py noise_ceiling.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from phosphene.data.simulated.simulate import simulate
from phosphene.maps import flatmap
from phosphene.numerics.correlation import noise_ceiling


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj, float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        root = simulate(
            Path(folder) / "nsd", images_shared=20, images_own=180, sessions=3, picture_size=32
        )
        # in the real data these are the same paths
        subject = root / "nsddata" / "ppdata" / "subj01"
        betas = (
            root
            / "nsddata_betas"
            / "ppdata"
            / "subj01"
            / "func1pt8mm"
            / "betas_fithrf_GLMdenoise_RR"
        )
        ncsnr = read(betas / "ncsnr.nii.gz")
        streams = read(subject / "func1pt8mm" / "roi" / "streams.nii.gz")
        flatmap.show(
            noise_ceiling(ncsnr, repeats=3),
            subject / "transforms",
            outlines={"early": streams == 1, "ventral": streams == 5},
            title="Noise ceiling of a simulated subject",
            scale=flatmap.Scale("variance that can be explained, % (three trials averaged)", low=0),
            path=output,
        )
    print(output)


if __name__ == "__main__":
    main()
