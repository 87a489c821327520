"""The latent diffusion model: z and c against plain library calls, invariances, refusals (sampling:
test_sampling).
"""

import shutil

import numpy as np
import pytest
import torch

from phosphene.errors import PhospheneError
from phosphene.models.diffusion import batching
from phosphene.models.diffusion.batching import in_blocks, own_device
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.sources import BUNDLED, NETWORKS, network_key


@pytest.fixture(scope="session")
def model():
    return LatentDiffusion.load("bundled", "cpu")


def photographs(n: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


CAPTIONS = [
    ["a red cat", "a cat in the snow"],
    ["a blue house"],
    ["a cup", "a red cup", "a cup on the beach"],
]


def test_z_equals_plain_calls_of_diffusers(model):
    from PIL import Image

    photos = photographs(3, 80)
    side = [Image.fromarray(p).resize((64, 64), Image.Resampling.LANCZOS) for p in photos]
    x = torch.from_numpy(np.stack([np.asarray(p) for p in side])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        posterior = model.vae.encode(x).latent_dist
    scale = model.vae.config.scaling_factor
    np.testing.assert_allclose(
        model.image_to_latent(photos), (posterior.mean * scale).flatten(1), atol=2e-5
    )
    seeds = [4, 5, 6]
    shape = model.latent_shape()
    noise = np.stack(
        [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
    )
    sample = posterior.mean + torch.exp(posterior.logvar / 2) * torch.from_numpy(noise)
    found = model.image_to_latent(photos, sample_seeds=seeds)
    np.testing.assert_allclose(found, (sample * scale).flatten(1), atol=2e-5)
    assert np.abs(found - model.image_to_latent(photos)).max() > 1e-3


def test_c_equals_plain_calls_of_transformers(model):
    found = model.text_to_context(CAPTIONS)
    for row, captions in zip(found, CAPTIONS, strict=True):
        tokens = model.tokenizer(
            captions, padding="max_length", max_length=24, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model.text(input_ids=tokens.input_ids).last_hidden_state
        np.testing.assert_allclose(row, states.mean(0).flatten(), atol=2e-5)


def test_results_do_not_depend_on_batch_order_or_place(model):
    """Bit by bit: all together, one by one, in another order, some of them."""
    photos = photographs(6)
    texts = [[f"a {word} cup"] for word in ("red", "blue", "green", "white", "black", "grey")]
    z = model.image_to_latent(photos)
    c = model.text_to_context(texts)
    seeds = np.arange(6)
    order = np.array([3, 5, 0, 4, 1, 2])

    def everything(rows):
        zs = model.image_to_latent(photos[rows])
        cs = model.text_to_context([texts[k] for k in rows])
        sampled = model.image_to_latent(photos[rows], sample_seeds=seeds[rows])
        pictures = model.denoise(z[rows], c[rows], steps=3, seeds=seeds[rows])
        return zs, cs, sampled, model.latent_to_image(z[rows]), pictures

    together = everything(np.arange(6))
    for rows in ([4], order, order[:5]):
        for found, all_rows in zip(everything(np.asarray(rows)), together, strict=True):
            assert np.array_equal(found, all_rows[rows])
    assert (
        np.abs(model.denoise(z[:1], c[:1], steps=3, seeds=[99]).astype(int) - together[4][0]).max()
        > 5
    )


def test_blocks_are_always_full():
    sizes = []

    def net(x, y):
        sizes.append(len(x))
        return x + y

    x = torch.arange(7.0)[:, None]
    y = torch.ones(7, 1)
    assert torch.equal(in_blocks(net, 3, x, y), x + y) and sizes == [3, 3, 3]
    assert torch.equal(in_blocks(net, 0, x, y), x + y) and sizes[-1] == 7


def test_attention_is_fused(model):
    names = {type(processor).__name__ for processor in model.unet.attn_processors.values()}
    assert names == {"AttnProcessor2_0"} and model.text.config._attn_implementation == "sdpa"


def test_workers_share_out_the_gpus(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (own_device("auto"), own_device("cuda:1"), own_device("cpu")) == (
        "cuda:0",
        "cuda:1",
        "cpu",
    )
    found = []
    for k in (1, 2, 3):
        monkeypatch.setattr(
            batching.multiprocessing, "current_process", lambda k=k: SimpleNamespace(_identity=(k,))
        )
        found.append(own_device("cuda"))
    assert found == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_device("cuda") == "cuda"
    for name in ("cuda:1", "mps", "xpu", "gpu", ""):
        with pytest.raises(PhospheneError, match="expected 'auto' or one of cpu, cuda, cuda:0$"):
            own_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "cpu"
    with pytest.raises(
        PhospheneError,
        match=r"found 'cuda:7', expected 'auto' or one of cpu \(PyTorch finds no GPU",
    ):
        own_device("cuda:7")


def test_as_many_pictures_as_fit(monkeypatch):
    """A picture that needs 1,000 bytes; 8,000 free on the GPU, 2,000 more held by torch but not in
    use.
    """
    numbers = {
        "reset_peak_memory_stats": None,
        "memory_allocated": 500,
        "max_memory_allocated": 1500,
        "memory_reserved": 2500,
        "mem_get_info": (8000, 9000),
    }
    for name, number in numbers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, number=number: number)
    device = torch.device("cuda")
    ran = []
    assert batching.fitting(device, 32, lambda: ran.append(1)) == 8 and len(ran) == 2
    assert batching.fitting(device, 5, lambda: None) == 5


def test_no_noise_gives_the_autoencoder_back(model):
    z = model.image_to_latent(photographs(1))
    c = model.text_to_context([["a cup"]])
    assert np.array_equal(model.denoise(z, c, strength=0.0, seeds=[0]), model.latent_to_image(z))


def test_latents_and_contexts_are_rows(model):
    assert model.image_to_latent(photographs(2, 80)).shape == (
        2,
        int(np.prod(model.latent_shape())),
    )
    assert model.image_to_latent(photographs(1), 32).shape == (
        1,
        int(np.prod(model.latent_shape(32))),
    )
    two = model.text_to_context([["a cat", "a house"], ["a cat"]])
    one = model.text_to_context([["a house"]])
    assert two.dtype == np.float32 and two.shape == (2, int(np.prod(model.context_shape)))
    np.testing.assert_allclose(two[0], (two[1] + one[0]) / 2, atol=1e-5)


def test_wrong_models_are_refused(tmp_path, model):
    with pytest.raises(PhospheneError, match="found no folder"):
        LatentDiffusion.load(tmp_path / "nowhere")
    (tmp_path / "vae").mkdir()
    with pytest.raises(PhospheneError, match="lacks unet/, text_encoder/"):
        LatentDiffusion.load(tmp_path)
    with pytest.raises(PhospheneError, match="rows of 7 numbers"):
        model.latent_to_image(np.zeros((1, 7), np.float32))
    with pytest.raises(PhospheneError, match="found 2 seeds for 1 contexts"):
        model.denoise(None, model.text_to_context([["a cup"]]), seeds=[1, 2])


@pytest.mark.parametrize(
    ("file", "networks"),
    [
        ("vae/diffusion_pytorch_model.safetensors", {"vae"}),
        ("unet/diffusion_pytorch_model.safetensors", {"unet"}),
        ("unet/config.json", {"unet"}),
        ("text_encoder/model.safetensors", {"text_encoder"}),
        ("tokenizer/merges.txt", {"text_encoder"}),
        ("scheduler/scheduler_config.json", {"scheduler"}),
        ("tokenizer/.DS_Store", set()),
        ("unet/._config.json", set()),
        ("unet/._diffusion_pytorch_model.safetensors", set()),
        ("vae/Thumbs.db", set()),
        ("vae/notes.txt", set()),
        ("model_index.json", set()),
    ],
)
def test_a_key_follows_the_files_of_its_network(tmp_path, file, networks):
    copy = tmp_path / "copy"
    shutil.copytree(BUNDLED, copy)
    before = {network: network_key("bundled", network) for network in NETWORKS}
    assert len(set(before.values())) == 4
    assert {network: network_key(copy, network) for network in NETWORKS} == before
    with (copy / file).open("ab") as stream:
        stream.write(b"{}" if file == "model_index.json" else b" ")
    differing = {network for network in NETWORKS if network_key(copy, network) != before[network]}
    assert differing == networks


def test_other_networks_have_no_key():
    with pytest.raises(ValueError, match="unknown network 'tokenizer'; expected one of unet"):
        network_key("bundled", "tokenizer")
