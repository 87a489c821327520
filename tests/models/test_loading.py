"""Loading: every layout of a model gives the same nets, to the bit, without the network."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from phosphene.errors import PhospheneError
from phosphene.models.diffusion import checkpoints, loading
from phosphene.models.diffusion.sources import NETWORKS, network_key
from support.model_layouts import (
    NETS,
    SMALL,
    Written,
    compvis_state,
    empty_nets,
    lightning_checkpoint,
    random_states,
    shipped,
    write_folder,
)

CAPTIONS = ["a photo of a cat", "it's 2 dogs, really!"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Nets this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def model(request, tmp_path_factory):
    return Written(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    return Written(tmp_path_factory.mktemp("sd1"), "sd1")


def load(name) -> loading.Nets:
    return loading.nets(name, "cpu", torch.float32)


@torch.inference_mode()
def outputs(vae, unet, text, ids) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 32, 32, generator=make)
    latents = torch.randn(2, 4, 8, 8, generator=make)
    context = text(ids).last_hidden_state
    z = vae.encode(pixels).latent_dist.mean
    return [z, vae.decode(z).sample, context, unet(latents, 321, context).sample]


def ids_of(tokenizer):
    return tokenizer(
        CAPTIONS, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids


@pytest.mark.parametrize("layout", ["folder", "safetensors", "ckpt"])
def test_every_layout_gives_the_nets_as_they_were(model, layout):
    from transformers import CLIPTextConfig, CLIPTextModel

    found = load(getattr(model, layout))
    plain = empty_nets(model.config)
    # its positions need memory
    plain["text_encoder"] = CLIPTextModel(CLIPTextConfig(**model.config["text_encoder"]))
    for net in NETS:
        plain[net].load_state_dict(model.states[net], assign=True)
        # in training mode the CPU's kernels round otherwise
        plain[net].eval().requires_grad_(False)
    ids = ids_of(found.tokenizer)
    ours = outputs(found.vae, found.unet, found.text, ids)
    theirs = outputs(plain["vae"], plain["unet"], plain["text_encoder"], ids)
    for a, b in zip(ours, theirs, strict=True):
        assert a.std() > 1e-3 and torch.equal(a, b)
    assert found.scheduler_config == model.config["scheduler"]
    assert found.unet.config.sample_size == 8 and not found.unet.training
    assert not any(
        p.requires_grad for n in (found.vae, found.unet, found.text) for p in n.parameters()
    )


def test_old_names_pickled_weights_and_half_precision_load_alike(sd1, tmp_path):
    """As on the hub: an autoencoder with the attention names of 2022, .bin files, and only the
    variant "fp16".
    """
    folder = tmp_path / "old"
    shutil.copytree(sd1.folder, folder)
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    renamed = {
        re.sub("|".join(map(re.escape, old)), lambda m: old[m[0]], k): v for k, v in state.items()
    }
    assert set(renamed) != set(state)
    save_file(renamed, file, {"format": "pt"})
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    file = folder / "text_encoder/model.safetensors"
    half = {key: value.half() for key, value in load_file(file).items()}
    save_file(half, file.with_name("model.fp16.safetensors"), {"format": "pt"})
    file.unlink()
    a = load(folder)
    b = load(sd1.folder)
    assert all(
        torch.equal(x, y) for x, y in zip(a.vae.parameters(), b.vae.parameters(), strict=True)
    )
    assert all(
        torch.equal(x, y) for x, y in zip(a.unet.parameters(), b.unet.parameters(), strict=True)
    )
    assert all(
        torch.equal(x, y.half().float())
        for x, y in zip(a.text.parameters(), b.text.parameters(), strict=True)
    )
    assert loading.describe(folder)["dtype"] == "float16, float32"


def test_shipped_configurations_have_the_published_sizes():
    """Parameters of the U-Nets, autoencoder and text encoders, as counted in the published
    models.
    """
    count = {
        family: {
            net: sum(p.numel() for p in m.parameters())
            for net, m in empty_nets(shipped(family)).items()
        }
        for family in ("sd1", "sd2", "sd2-base")
    }
    assert count["sd1"] == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
    assert count["sd2"] == {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
    assert count["sd2-base"] == count["sd2"]


def test_clip_numbers_words_as_published():
    tokenizer = checkpoints.tokenizer(shipped("sd1")["tokenizer"])
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("Hello,  WORLD!").input_ids == [49406, 3306, 267, 1002, 256, 49407]
    assert len(tokenizer) == 49408 and tokenizer.model_max_length == 77
    assert ids_of(tokenizer)[0, 7:].unique().tolist() == [49407]
    second = checkpoints.tokenizer(shipped("sd2")["tokenizer"])
    assert ids_of(second)[0].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 70


def test_the_name_or_a_file_beside_says_what_the_second_predicts(tmp_path, model):
    family = "sd1" if model.config["scheduler"]["prediction_type"] == "epsilon" else "sd2"
    assert (
        load(model.safetensors).scheduler_config["prediction_type"]
        == shipped(family)["scheduler"]["prediction_type"]
    )
    file = tmp_path / "own_512.safetensors"
    shutil.copy(model.safetensors, file)
    file.with_suffix(".phosphene.json").write_text(json.dumps(SMALL[family]))
    assert loading.describe(file)["prediction_type"] == "epsilon"
    before = network_key(file, "scheduler")
    own = SMALL[family] | {"scheduler": {"prediction_type": "v_prediction"}}
    file.with_suffix(".phosphene.json").write_text(json.dumps(own))
    assert loading.describe(file)["prediction_type"] == "v_prediction"
    assert network_key(file, "scheduler") != before
    file.with_suffix(".phosphene.json").write_text('{"sheduler": {}}')
    with pytest.raises(
        PhospheneError,
        match=r"own_512\.phosphene\.json: found .*sheduler.*expected settings under unet, vae",
    ):
        load(file)


def test_a_hub_id_is_found_in_the_cache_only(sd1, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        PhospheneError, match="`hf download CompVis/stable-diffusion-v1-4`, or give"
    ):
        load("CompVis/stable-diffusion-v1-4")
    cache = tmp_path / "models--CompVis--stable-diffusion-v1-4"
    shutil.copytree(sd1.folder, cache / "snapshots/133a221b8aa7292a167afc5127cb63fb5005638b")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("133a221b8aa7292a167afc5127cb63fb5005638b")
    found = load("CompVis/stable-diffusion-v1-4")
    assert torch.equal(found.unet.conv_in.weight, sd1.states["unet"]["conv_in.weight"])
    assert loading.describe("CompVis/stable-diffusion-v1-4")["source"] == "hub"
    for network in NETWORKS:
        key = network_key("CompVis/stable-diffusion-v1-4", network)
        assert key == network_key(sd1.folder, network)
    shutil.rmtree(cache / "snapshots/133a221b8aa7292a167afc5127cb63fb5005638b/vae")
    with pytest.raises(PhospheneError, match="lacks vae/.*hf download CompVis"):
        load("CompVis/stable-diffusion-v1-4")


def test_a_description_needs_no_loading(model):
    first = model.config["text_encoder"]["hidden_size"] == 16
    sizes = {net: sum(v.numel() for v in model.states[net].values()) for net in NETS}
    for layout, kind in (("folder", "folder"), ("safetensors", "file"), ("ckpt", "file")):
        said = loading.describe(getattr(model, layout))
        assert said.pop("path") == str(getattr(model, layout)) and said.pop("source") == kind
        assert said == {
            "architecture": "other",
            "parameters": sizes,
            "latent_channels": 4,
            "size": 32,
            "context_shape": [77, 16 if first else 24],
            "prediction_type": "epsilon" if first else "v_prediction",
            "dtype": "float32",
        }
    bundled = loading.describe("bundled")
    assert (
        bundled["source"] == "bundled"
        and bundled["size"] == 64
        and bundled["context_shape"] == [24, 128]
    )


def test_the_key_of_a_file_sees_every_net_and_no_place(sd1, tmp_path):
    before = network_key(sd1.safetensors, "vae")
    assert {network_key(sd1.safetensors, network) for network in NETWORKS} == {before}
    copy = tmp_path / "elsewhere.safetensors"
    shutil.copy(sd1.safetensors, copy)
    shutil.copy(sd1.safetensors.with_suffix(".phosphene.json"), copy.with_suffix(".phosphene.json"))
    assert network_key(copy, "vae") == before
    assert network_key(sd1.ckpt, "vae") != before
    for prefix in checkpoints.PREFIXES.values():
        changed = {
            key: value + 1 if key.startswith(prefix) else value for key, value in sd1.state.items()
        }
        save_file(changed, copy)
        assert network_key(copy, "vae") != before


FULL_SIZE = """
import hashlib, json, resource, sys, time
import torch
from diffusers import DDIMScheduler
from phosphene.models.diffusion import loading

start = time.perf_counter()
nets = loading.nets(sys.argv[1], "cpu", torch.float32)
loaded, memory = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scheduler = DDIMScheduler.from_config(nets.scheduler_config)
scheduler.set_timesteps(2)
with torch.inference_mode():
    ids = nets.tokenizer(["", "a cat"], padding="max_length", max_length=77, return_tensors="pt")
    context = nets.text(ids.input_ids).last_hidden_state
    x = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        without, given = nets.unet(torch.cat([x, x]), t, context).sample.chunk(2)
        x = scheduler.step(without + 5 * (given - without), t, x).prev_sample
    picture = nets.vae.decode(x / nets.vae.config.scaling_factor).sample
print(json.dumps({
    "parameters": sum(p.numel() for n in (nets.unet, nets.vae, nets.text) for p in n.parameters()),
    "shape": list(picture.shape), "finite": bool(picture.isfinite().all()),
    "picture": hashlib.sha256(picture.numpy().tobytes()).hexdigest(),
    "load_seconds": round(loaded, 1), "seconds": round(time.perf_counter() - start, 1),
    "load_gb": round(memory / 2**20, 2),
    "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_full_size_stable_diffusion_on_the_cpu(tmp_path):
    """Stable Diffusion 1.4 with random float16 weights, in the three layouts: the same picture
    within 12 GB.
    """
    config = shipped("sd1")
    states = random_states(config, 0.02, torch.float16)
    results = []
    for layout in ("folder", "model.safetensors", "model.ckpt"):
        place = tmp_path / layout
        if layout == "folder":
            write_folder(place, states, config)
        elif layout == "model.ckpt":
            lightning_checkpoint(compvis_state(states, config, "sd1"), place)
        else:
            save_file(compvis_state(states, config, "sd1"), place)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", FULL_SIZE, place],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        print(layout, done.stdout, flush=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    for result in results:
        assert result["parameters"] == 859_520_964 + 83_653_863 + 123_060_480
        assert (
            result["shape"] == [1, 3, 512, 512]
            and result["finite"]
            and result["picture"] == results[0]["picture"]
        )
        assert result["peak_gb"] < 12
