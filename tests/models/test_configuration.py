"""What is known of models without torch, against the models themselves."""

import json
import shutil
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from phosphene.errors import PhospheneError
from phosphene.models.diffusion import sources
from phosphene.models.diffusion.configuration import DEFAULTS, LATENT, Configuration
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.perceptual import weights
from support.environment import ENVIRONMENT
from support.model_layouts import Written


@pytest.fixture(scope="module", params=["bundled", "sd1", "sd2"])
def stored(request, tmp_path_factory):
    """Names of one model in every layout."""
    if request.param == "bundled":
        return ["bundled"]
    written = Written(tmp_path_factory.mktemp(request.param), request.param)
    return [written.folder, written.safetensors, written.ckpt]


def measured_widths(model: LatentDiffusion) -> dict[str, int]:
    """What the blocks of a U-Net give, seen by hooks in one call."""
    unet = model.unet
    blocks = {f"down{k}": block for k, block in enumerate(unet.down_blocks)}
    blocks |= {"mid": unet.mid_block} | {f"up{k}": b for k, b in enumerate(unet.up_blocks)}
    widths = {LATENT: prod(model.latent_shape())}

    def note(place):
        def hook(_module, _given, output):
            widths[place] = (output[0] if isinstance(output, tuple) else output)[0].numel()

        return hook

    handles = [block.register_forward_hook(note(place)) for place, block in blocks.items()]
    with torch.inference_mode():
        unet(torch.zeros(1, *model.latent_shape()), 1, model.empty_context)
    for handle in handles:
        handle.remove()
    return widths


def test_the_configuration_has_the_sizes_of_the_loaded_model(stored):
    for name in stored:
        known = Configuration.of(name)
        model = LatentDiffusion.load(name, "cpu")
        assert known.size == model.size and known.context_shape == model.context_shape
        assert known.latent_shape() == model.latent_shape()
        assert known.latent_shape(96) == model.latent_shape(96)
        assert known.widths == measured_widths(model)
        for steps, strength in ((50, 0.8), (50, 1.0), (7, 0.5), (20, 0.04)):
            visited = model.schedule.timesteps(steps, strength)
            assert known.n_steps(steps, strength) == len(visited)


def test_stable_diffusion_has_the_published_widths(tmp_path):
    """Wherever the last bit of a side is lost on the way down, as in the library."""
    config = json.loads((sources.CONFIGS / "sd1.json").read_text())
    files = {part: DEFAULTS[part] | config[part] for part in DEFAULTS}
    widths = Configuration(files).widths
    assert widths["up2"] == 640 * 64 * 64 and widths["mid"] == 1280 * 8 * 8
    assert list(widths) == [
        *("latent", "down0", "down1", "down2", "down3", "mid"),
        *("up0", "up1", "up2", "up3"),
    ]
    assert Configuration(files).latent_shape(320) == (4, 40, 40)


def test_weight_files_are_those_that_torchvision_names(monkeypatch, tmp_path):
    from torchvision.models import get_weight

    names = {
        "alexnet": "AlexNet_Weights.IMAGENET1K_V1",
        "inception_v3": "Inception_V3_Weights.IMAGENET1K_V1",
        "efficientnet_b1_v1": "EfficientNet_B1_Weights.IMAGENET1K_V1",
        "efficientnet_b1_v2": "EfficientNet_B1_Weights.IMAGENET1K_V2",
    }
    assert names.keys() == weights.FILES.keys()
    for network, name in names.items():
        assert weights.wanted(network).address == get_weight(name).url
    for variable, value in (
        ("XDG_CACHE_HOME", str(tmp_path)),
        ("TORCH_HOME", str(tmp_path / "torch")),
        ("TORCH_HOME", "~/elsewhere"),
    ):
        monkeypatch.setenv(variable, value)
        assert weights.places(None)[-1] == Path(torch.hub.get_dir()) / "checkpoints"


LIGHT = """
import sys
from phosphene.metrics.presets import PRESETS
from phosphene.models.diffusion.configuration import Configuration
from phosphene.models.diffusion.sources import NETWORKS, network_key
from phosphene.models.judge.labels import fingerprint as of_judge
from phosphene.models.perceptual.stamps import missing, stamp
for name in sys.argv[1:]:
    print(*(network_key(name, network) for network in NETWORKS), Configuration.of(name).widths)
spaces = {m.space for p in PRESETS.values() for m in p.metrics if m.space is not None}
for space in spaces:
    missing(space) is None and stamp(space)
of_judge()
assert "torch" not in sys.modules and "diffusers" not in sys.modules
"""


def test_keys_and_sizes_need_no_torch(stored):
    command = [sys.executable, "-c", LIGHT, *map(str, stored)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0].split()[:4]
    assert first == [sources.network_key(stored[0], network) for network in sources.NETWORKS]


def test_the_family_is_read_off_names_that_are_never_opened(tmp_path):
    """A pickle is searched, not opened: what it would call is not called."""
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (Path.touch, (ran,))

    torch.save({"cond_stage_model.transformer.x": np.zeros(1), "code": Code()}, tmp_path / "a.ckpt")
    torch.save({"cond_stage_model.model.transformer.x": Code()}, tmp_path / "b_512.ckpt")
    legacy = tmp_path / "c.ckpt"
    torch.save({"cond_stage_model.transformer.x": 1}, legacy, _use_new_zipfile_serialization=False)
    (tmp_path / "d.ckpt").write_bytes(b"")
    families = [sources.family(tmp_path / name) for name in ("a.ckpt", "b_512.ckpt", "d.ckpt")]
    assert families == ["sd1", "sd2-base", "sd2"] and sources.family(legacy) == "sd1"
    assert not ran.exists()


def test_a_damaged_file_is_named_in_one_sentence(tmp_path):
    written = Written(tmp_path, "sd1")
    content = bytearray(written.ckpt.read_bytes())
    # a byte of the pickle within the archive: its checksum is wrong
    content[content.index(b"cond_stage_model") + 3] ^= 255
    written.ckpt.write_bytes(content)
    content = bytearray(written.safetensors.read_bytes())
    content[8:40] = b"\xff" * 32
    written.safetensors.write_bytes(content)
    for path in (written.ckpt, written.safetensors):
        with pytest.raises(PhospheneError, match=f"{path}: found a damaged or cut-off file"):
            sources.network_key(path, "unet")


def test_metadata_are_no_names_of_tensors(tmp_path):
    path = tmp_path / "sd2_512.safetensors"
    named = {"cond_stage_model.model.transformer.x": torch.zeros(1)}
    save_file(named, path, metadata={"cond_stage_model.transformer.": "of another model"})
    assert sources.family(path) == "sd2-base"


def test_sizes_that_cannot_be_read_are_named(tmp_path):
    folder = shutil.copytree(sources.BUNDLED, tmp_path / "model")
    for net in ("vae", "unet"):
        file = folder / net / "config.json"
        whole = file.read_text()
        file.write_text(json.dumps(json.loads(whole) | {"block_out_channels": None}))
        with pytest.raises(PhospheneError, match=f"{folder}: the sizes in its configuration"):
            Configuration.of(folder)
        file.write_text(whole)
    assert Configuration.of(folder).size == 64
