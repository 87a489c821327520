"""One noise for all pictures: which settings share it, and that neither parts nor batches change a
bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import phosphene as ph
from phosphene.methods import TRUE
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.pipeline.graph import make
from phosphene.steps import reconstruct as stage
from phosphene.steps.noise import latent_seeds, noise_seeds
from phosphene.steps.reconstruct import Reconstruct, pictures
from phosphene.study import Compute

QUIET = Compute(device="cpu", threads=1, progress=False)
SUBJECT = "subj01"
N_ITEMS = 4
N_SAMPLES = 2
VALUES: dict[str, Any] = {
    "data": {
        "root": "data",
        "simulate": {
            "enabled": True,
            "images_shared": N_ITEMS,
            "images_own": 10,
            "repeats": 2,
            "sessions": 2,
        },
    },
    "reconstruct": {"steps": 4, "samples": N_SAMPLES, "same_noise": True},
}
KEYS = [("subj01", image, 0, sample) for image in (5, 9) for sample in (0, 1)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ph.Study:
    folder = tmp_path_factory.mktemp("same-noise")
    return ph.Study.from_dict(VALUES, root=folder / "runs", folder=folder)


def test_the_same_noise_differs_between_samples_and_seeds_only(study: ph.Study) -> None:
    first, second, *others = noise_seeds(study, KEYS, same=True)
    assert [first, second] == others and first != second
    assert noise_seeds(study.replace("seed", 1), KEYS, same=True)[0] != first
    assert len(set(noise_seeds(study, KEYS, same=False))) == len(KEYS)


@pytest.mark.parametrize("mode", ["c", "zc"])
def test_pictures_start_from_the_same_noise_whatever_the_parts(
    study: ph.Study, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[int]] = []
    later = LatentDiffusion.denoise_later

    def noted(model: LatentDiffusion, *rows: Any, **settings: Any) -> Any:
        calls.append(settings["seeds"])
        return later(model, *rows, **settings)

    monkeypatch.setattr(LatentDiffusion, "denoise_later", noted)
    (made,) = make([Reconstruct(study, SUBJECT, mode, TRUE)], QUIET)
    whole = pictures(made, range(N_ITEMS))
    shared = noise_seeds(study, [(0, sample) for sample in range(N_SAMPLES)], same=True)
    assert calls == [shared * N_ITEMS]
    monkeypatch.setattr(stage, "ITEMS_PER_PART", 1)
    (tmp_path / "data").symlink_to(study.data_root)
    other = ph.Study.from_dict(VALUES, root=tmp_path / "runs", folder=tmp_path)
    compute = Compute("cpu", batch=1, threads=1, progress=False)
    (again,) = make([Reconstruct(other, SUBJECT, mode, TRUE)], compute)
    assert calls[1:] == [shared] * N_ITEMS
    np.testing.assert_array_equal(pictures(again, range(N_ITEMS)), whole)


def test_samples_of_the_posterior_are_shared_as_in_the_released_code(study: ph.Study) -> None:
    sampled = study.replace("model.latent", "sample")
    keys = [("subj01", 5, 0), ("subj01", 9, 0)]
    shared = latent_seeds(sampled, keys, same=True)
    own = latent_seeds(sampled, keys)
    assert shared and own and len(set(shared)) == 1 and len(set(own)) == 2
    assert latent_seeds(study, keys, same=True) is None


def test_the_setting_is_part_of_what_pictures_are_made_from(study: ph.Study) -> None:
    own = study.replace("reconstruct.same_noise", False)
    for mode in ("c", "zc"):
        separate = Reconstruct(own, SUBJECT, mode)
        assert Reconstruct(study, SUBJECT, mode).hash != separate.hash
        assert "same_noise" not in separate.recipe.settings
    # without noise
    assert Reconstruct(study, SUBJECT, "z").hash == Reconstruct(own, SUBJECT, "z").hash
