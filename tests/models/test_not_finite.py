"""Numbers that are NaN or infinite, and captions that the model does not read to their end."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.errors import PhospheneError
from phosphene.models.diffusion.captions import check_captions
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.sources import BUNDLED
from phosphene.models.perceptual.networks import network
from phosphene.pipeline.graph import make
from phosphene.steps import subject
from phosphene.steps.extract import Extract
from phosphene.study import Compute, Study

PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
OWN = '[data]\nkind = "arrays"\nroot = "lab"\n[decode]\nz.rois = ["all"]\nc.rois = ["all"]\n'
SMALL = "{enabled = true, images_shared = 4, images_own = 8, sessions = 1, repeats = 1}"
START = (
    "a very long beginning that is the same in all of these sentences about things and places "
    "and more of them "
)


@pytest.fixture(scope="module")
def bundled() -> LatentDiffusion:
    return LatentDiffusion.load("bundled", "cpu")


@pytest.fixture
def model(bundled: LatentDiffusion) -> LatentDiffusion:
    return copy.deepcopy(bundled)


def spoil(net: torch.nn.Module, name: str, value: float) -> None:
    with torch.no_grad():
        net.get_parameter(name).fill_(value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("part", "file", "tensor"),
    [
        ("unet", "diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("vae", "diffusion_pytorch_model.safetensors", "decoder.conv_out.bias"),
        ("text_encoder", "model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_spoilt_weights_are_refused(
    tmp_path: Path, part: str, file: str, tensor: str, value: float
) -> None:
    shutil.copytree(BUNDLED, tmp_path / "model")
    path = tmp_path / "model" / part / file
    state = load_file(path)
    (name,) = [key for key in state if key.endswith(tensor)]
    state[name].view(-1)[0] = value
    save_file(state, path, {"format": "pt"})
    names = {"unet": "U-Net", "vae": "autoencoder", "text_encoder": "text encoder"}
    with pytest.raises(
        PhospheneError, match=f"its {names[part]} has NaN or infinite weights \\(.*{tensor}"
    ):
        LatentDiffusion.load(tmp_path / "model", "cpu")
    text = f'[data]\nroot = "d"\nsimulate = {SMALL}\n[model]\nname = "{tmp_path}/model"\n'
    (tmp_path / "s.toml").write_text(text)
    result = CliRunner().invoke(app, ["run", str(tmp_path / "s.toml")])
    assert result.exit_code == 1 and "has NaN or infinite weights" in result.stderr
    assert not (tmp_path / "runs").exists()  # refused before anything is made
    result = CliRunner().invoke(app, ["check", "--model", str(tmp_path / "model")])
    assert result.exit_code == 1 and "has NaN or infinite weights" in result.output


def test_networks_that_score_are_refused_too(tmp_path: Path) -> None:
    from torchvision.models import alexnet

    state = alexnet(weights=None).state_dict()
    state["features.0.bias"][3] = np.nan
    torch.save(state, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(
        PhospheneError, match=r"alexnet-owt-7be5be79\.pth has NaN .* \(features\.0\.bias\)"
    ):
        network("alexnet", tmp_path, "cpu")


def test_what_a_network_gives_is_checked(model: LatentDiffusion) -> None:
    """As where float16 overflows: weights are finite, what they give is not."""
    c = model.text_to_context([["a cat"], ["a dog"]])
    z = model.image_to_latent(PHOTOS)
    for name in ("c", "z"):
        spoilt = {"c": c.copy(), "z": z.copy()}
        spoilt[name][1, 5] = np.nan
        with pytest.raises(PhospheneError, match=r"found .* \(row 1 of 2\) with NaN"):
            model.denoise(spoilt["z"], spoilt["c"], steps=2, seeds=[0, 1])
    with pytest.raises(PhospheneError, match="found latents .row 1 of 2. with NaN"):
        model.latent_to_image(spoilt["z"])
    spoil(model.unet, "conv_in.weight", np.nan)
    with pytest.raises(PhospheneError, match="the U-Net gave latents .row 0 of 2. with NaN"):
        model.denoise(z, c, steps=2, seeds=[0, 1])
    spoil(model.vae, "decoder.conv_in.weight", np.inf)
    with pytest.raises(PhospheneError, match="the autoencoder gave pictures with NaN"):
        model.latent_to_image(z)
    spoil(model.vae, "encoder.conv_in.weight", np.nan)
    with pytest.raises(PhospheneError, match="the autoencoder gave latents"):
        model.image_to_latent(PHOTOS)
    spoil(model.text, "final_layer_norm.weight", np.nan)
    with pytest.raises(PhospheneError, match="the text encoder gave contexts"):
        model.text_to_context([["a cat"]])


def test_nothing_is_stored_of_what_is_not_finite(
    folder: Path,
    tmp_path: Path,
    replace_everywhere: Callable[..., None],
    model: LatentDiffusion,
) -> None:
    (tmp_path / "s.toml").write_text(OWN)
    study = Study.load(tmp_path / "s.toml", root=tmp_path / "runs")
    spoil(model.vae, "encoder.conv_in.weight", np.nan)
    replace_everywhere(subject, "load_model", lambda name, device: model)
    with pytest.raises(PhospheneError, match="the autoencoder gave latents"):
        make([Extract(study, "subj01", "z")], Compute(progress=False))
    assert not list((tmp_path / "runs").rglob("c/*")) and not list(
        (tmp_path / "runs").rglob("parts/0.json")
    )


# captions


def test_captions_that_are_cut_are_counted(bundled: LatentDiffusion) -> None:
    texts = [["a cat", START + "with a cat"], ["a dog"]]
    with pytest.warns(
        UserWarning, match="^1 of 3 captions are longer than the 24 tokens"
    ) as caught:
        bundled.text_to_context(texts)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="^1 of 3 captions are longer than the 24 tokens"):
        check_captions(bundled, texts, ["a", "b"])


@pytest.mark.filterwarnings("error")
def test_captions_that_fit_pass_silently(bundled: LatentDiffusion) -> None:
    # equal, but nothing was cut
    check_captions(bundled, [["a cat"], ["A  cat"], ["a cat"]], ["a", "b", "c"])
    bundled.text_to_context([["a cat"]])


def test_captions_that_differ_beyond_the_window_are_refused(
    bundled: LatentDiffusion,
) -> None:
    with pytest.raises(
        PhospheneError, match="captions of 'a' and 'b' differ only beyond the 24 tokens"
    ):
        check_captions(bundled, [[START + "with a cat"], [START + "with a dog"]], ["a", "b"])
    with pytest.warns(UserWarning, match="2 of 2"):  # equal as they are
        check_captions(bundled, [[START + "with a cat"], [START + "with a cat"]], ["a", "b"])


def test_a_study_with_captions_that_become_equal(folder: Path, tmp_path: Path) -> None:
    rows = "".join(f'"{name}",{START} {name[0]}\n' for name in ("b", "a", "10", "é, 7"))
    (folder / "captions.csv").write_text("image_id,caption\n" + rows)
    (tmp_path / "s.toml").write_text(OWN)
    result = CliRunner().invoke(app, ["extract", str(tmp_path / "s.toml")])
    assert result.exit_code == 1 and "differ only beyond the 24 tokens" in result.stderr
    assert not list((tmp_path / "runs").glob("extract/*-c-*/parts"))


@pytest.mark.parametrize("captions", [["a red cat"], [["a cat"], []], [["a cat"], "a dog"]])
def test_captions_come_in_lists(bundled: LatentDiffusion, captions: list) -> None:
    with pytest.raises(PhospheneError, match="expected a list of one or more sentences"):
        bundled.text_to_context(captions)
