"""Presets against the original scripts, written out plainly here on the same networks with random
weights.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torchvision import transforms
from torchvision.models.feature_extraction import create_feature_extractor

from phosphene.errors import PhospheneError
from phosphene.metrics import low_level
from phosphene.metrics.presets import PRESETS
from phosphene.models.perceptual import extraction
from phosphene.models.perceptual.extraction import features
from phosphene.models.perceptual.stamps import stamp

IMAGENET = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
OPENAI = transforms.Normalize(
    mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]
)
FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "inception_v3": "inception_v3_google-0cc3c7bd.pth",
    "efficientnet_b1": "efficientnet_b1_rwightman-bac287d4.pth",
    "efficientnet_b1 again": "efficientnet_b1-c27df63c.pth",
    "resnet50": "swav_800ep_pretrain.pth.tar",
}


# torchvision's extractor
pytestmark = pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained:UserWarning")


def painted(height: int, width: int, seed: int) -> np.ndarray:
    """Blobs and grain: something at every scale, so that every way of resizing leaves its own
    trace.
    """
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.clip(
        np.asarray(coarse, float) + rng.normal(0, 40, (height, width, 3)), 0, 255
    ).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """16 pictures at once are for work; here 2 are asked for at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "BATCH", 2)
        yield


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [painted(512, 512, 0), painted(300, 461, 1)]


@pytest.fixture(scope="module")
def models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    made = {}
    for name in FILES:
        settings = (
            {"transform_input": True, "init_weights": False} if name == "inception_v3" else {}
        )
        model = torchvision.models.get_model(name.split()[0], weights=None, **settings).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.1, 0.4)
        # fast for few pictures; the numbers do not care
        made[name] = model.requires_grad_(False).to(memory_format=torch.channels_last)
    return made


@pytest.fixture(scope="module")
def clip_model():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(1)
    common = {
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "hidden_size": 64,
        "projection_dim": 48,
    }
    vision = common | {
        "num_hidden_layers": 13,
        "image_size": 224,
        "patch_size": 14,
        "initializer_factor": 4.0,
    }
    text = common | {"num_hidden_layers": 1, "vocab_size": 99, "max_position_embeddings": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=48)
    return CLIPModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, models, clip_model) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name, file in FILES.items():
        state = models[name].state_dict()
        # as published: names from parallel training, heads that no ResNet-50 has, no classifier
        if name == "resnet50":
            state = {f"module.{k}": v for k, v in state.items() if not k.startswith("fc.")}
            state |= {
                "module.prototypes.weight": torch.ones(3, 2),
                "module.projection_head.0.weight": torch.ones(2, 2),
            }
        torch.save(state, folder / file)
    clip_model.save_pretrained(folder / "clip-vit-large-patch14")
    return folder


@pytest.fixture(scope="module")
def found(pictures, weights) -> dict[str, np.ndarray]:
    spaces = [
        m.space
        for name in ("takagi2023", "braindiffuser")
        for m in PRESETS[name].metrics
        if m.space
    ]
    uint8 = features(pictures, spaces, weights=weights)
    floats = [(picture / 255).astype(np.float32) for picture in pictures]
    tensors = features(
        floats, [m.space for m in PRESETS["mindeye"].metrics if m.space], weights=weights
    )
    return {space.name: rows for space, rows in (uint8 | tensors).items()}


def agree(ours: np.ndarray, theirs: torch.Tensor) -> bool:
    """The same up to rounding to float16."""
    theirs = np.asarray(theirs, np.float64).reshape(len(ours), -1)
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 2e-3 * np.abs(theirs).max()


def test_takagi2023(found, pictures, models, clip_model):
    preprocess = transforms.Compose(
        [transforms.Resize(299), transforms.CenterCrop(299), transforms.ToTensor(), IMAGENET]
    )
    batch = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
    nodes = ["features.5", "features.12", "classifier.5"]
    alexnet = create_feature_extractor(models["alexnet"], nodes)(batch)
    for name, node in zip(("early", "mid", "late"), nodes, strict=True):
        assert agree(found[f"takagi2023/AlexNet {name}"], alexnet[node]), name
    inception = create_feature_extractor(models["inception_v3"], ["flatten"])(batch)["flatten"]
    assert agree(found["takagi2023/Inception"], inception)

    inputs = torch.from_numpy(np.stack([clip_input(picture) for picture in pictures]))
    said = clip_model.vision_model(pixel_values=inputs, output_hidden_states=True)
    assert agree(found["takagi2023/CLIP early"], said.hidden_states[6])
    assert agree(found["takagi2023/CLIP mid"], said.hidden_states[12])
    assert not agree(found["takagi2023/CLIP mid"], said.hidden_states[11])
    embedding = clip_model.visual_projection(said.pooler_output)
    length_one = embedding / embedding.norm(dim=-1, keepdim=True)  # CLIPModel's image_embeds
    ours = found["takagi2023/CLIP late"].astype(float)
    assert agree(ours / np.linalg.norm(ours, axis=1, keepdims=True), length_one)


def clip_input(picture: np.ndarray) -> np.ndarray:
    try:
        from transformers.models.clip.image_processing_pil_clip import (
            CLIPImageProcessorPil as Processor,
        )
    except ImportError:  # before transformers 5 there was only that of Pillow
        from transformers import CLIPImageProcessor as Processor
    return np.asarray(
        Processor()(Image.fromarray(picture), return_tensors="np")["pixel_values"][0], np.float32
    )


def test_braindiffuser(found, pictures, models, clip_model):
    resized = [
        transforms.functional.resize(Image.fromarray(picture), (224, 224)) for picture in pictures
    ]
    plain = torch.stack([transforms.functional.to_tensor(picture) for picture in resized])
    batch = IMAGENET(plain)

    caught = []
    for name, layer, model in (
        ("Alex(2)", models["alexnet"].features[4], models["alexnet"]),
        ("Alex(5)", models["alexnet"].features[11], models["alexnet"]),
        ("Inc", models["inception_v3"].avgpool, models["inception_v3"]),
        ("Eff", models["efficientnet_b1"].avgpool, models["efficientnet_b1"]),
        ("SwAV", models["resnet50"].avgpool, models["resnet50"]),
    ):
        handle = layer.register_forward_hook(
            lambda module, inputs, output: caught.append(output.clone())
        )
        model(batch)
        handle.remove()
        assert agree(found[f"braindiffuser/{name}"], caught.pop()), name
    assert found["braindiffuser/Alex(2)"].shape[1] == 139_968
    assert not agree(
        found["braindiffuser/Eff"], efficientnet(models["efficientnet_b1 again"], batch)
    )
    assert agree(found["braindiffuser/CLIP"], clip_embedding(clip_model, OPENAI(plain)))


def efficientnet(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return create_feature_extractor(model, ["avgpool"])(batch)["avgpool"]


def clip_embedding(clip_model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return clip_model.visual_projection(clip_model.vision_model(pixel_values=batch).pooler_output)


def resized_as_then(batch: torch.Tensor, side: int | tuple[int, int]) -> torch.Tensor:
    """torchvision.transforms.Resize of tensors before torchvision 0.17: no antialiasing."""
    return transforms.Resize(side, antialias=False)(batch)


def as_256(picture: np.ndarray) -> torch.Tensor:
    return resized_as_then(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255, (256, 256)
    )[0]


def test_mindeye(found, pictures, models, clip_model):
    images = torch.stack([as_256(picture) for picture in pictures])
    alexnet = create_feature_extractor(models["alexnet"], ["features.4", "features.11"])(
        IMAGENET(images)
    )
    assert agree(found["mindeye/Alex(2)"], alexnet["features.4"])
    assert agree(found["mindeye/Alex(5)"], alexnet["features.11"])
    inception = create_feature_extractor(models["inception_v3"], ["avgpool"])
    assert agree(found["mindeye/Inc"], inception(IMAGENET(resized_as_then(images, 342)))["avgpool"])
    at_255 = IMAGENET(resized_as_then(images, 255))
    assert agree(found["mindeye/Eff"], efficientnet(models["efficientnet_b1 again"], at_255))
    at_224 = resized_as_then(images, 224)
    swav = create_feature_extractor(models["resnet50"], ["avgpool"])
    assert agree(found["mindeye/SwAV"], swav(IMAGENET(at_224))["avgpool"])
    assert agree(found["mindeye/CLIP"], clip_embedding(clip_model, OPENAI(at_224)))
    smoothed = transforms.Resize(224, antialias=True)(images)
    assert not agree(found["mindeye/SwAV"], swav(IMAGENET(smoothed))["avgpool"])


def test_pixels_of_braindiffuser(pictures):
    recons = pictures
    originals = [painted(425, 425, 2), pictures[0]]
    pixcorr, ssim = PRESETS["braindiffuser"].metrics[:2]
    for k in range(2):
        # Pillow's default is bicubic
        gen, gt = (
            np.array(Image.fromarray(p[k]).resize((425, 425))) / 255.0 for p in (recons, originals)
        )
        r = np.corrcoef(gt.reshape(1, -1), gen.reshape(1, -1))[0, 1]
        assert low_level.pixcorr(recons, originals, pixcorr)[k] == pytest.approx(r, abs=1e-6)
        settings = {
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
            "data_range": 1.0,
        }
        gray = rgb2gray(gen), rgb2gray(gt)
        # multichannel=True of scikit-image 0.17: the last axis is that of channels, whatever it is
        columns = structural_similarity(*gray, channel_axis=-1, **settings)
        assert low_level.ssim(recons, originals, ssim)[k] == pytest.approx(columns, abs=1e-6)
        plain = PRESETS["pixel"].metrics[1]
        assert low_level.ssim(recons, originals, plain)[k] == pytest.approx(
            structural_similarity(*gray, **settings), abs=1e-6
        )
        assert abs(columns - structural_similarity(*gray, **settings)) > 1e-3


def test_pixels_of_mindeye(pictures):
    originals = [painted(425, 425, 2), pictures[0]]
    recons = [(picture / 255).astype(np.float32) for picture in pictures]
    pixcorr, ssim = PRESETS["mindeye"].metrics[:2]
    big = [
        [resized_as_then(as_256(picture)[None], 425)[0] for picture in some]
        for some in (pictures, originals)
    ]
    for k in range(2):
        r = np.corrcoef(big[0][k].flatten(), big[1][k].flatten())[0][1]
        assert low_level.pixcorr(recons, originals, pixcorr)[k] == pytest.approx(r, abs=1e-5)
        gray = [rgb2gray(some[k].permute(1, 2, 0).numpy()) for some in big]
        value = structural_similarity(
            *gray, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        )
        assert low_level.ssim(recons, originals, ssim)[k] == pytest.approx(value, abs=1e-4)


def test_presets_are_as_tabled():
    table = {
        name: [(m.name, m.kind, m.direction) for m in PRESETS[name].metrics]
        for name in ("braindiffuser", "mindeye")
    }
    expected = [
        ("PixCorr", "pixcorr", None),
        ("SSIM", "ssim", None),
        ("Alex(2)", "two-way", "braindiffuser"),
        ("Alex(5)", "two-way", "braindiffuser"),
        ("Inc", "two-way", "braindiffuser"),
        ("CLIP", "two-way", "braindiffuser"),
        ("Eff", "distance", None),
        ("SwAV", "distance", None),
    ]
    assert table == {"braindiffuser": expected, "mindeye": expected}
    assert {m.direction for m in PRESETS["takagi2023"].metrics} == {"takagi2023"}
    assert [PRESETS[name].selection for name in ("takagi2023", "braindiffuser", "mindeye")] == [
        "mean",
        "single",
        "single",
    ]
    assert [m.better for m in PRESETS["mindeye"].metrics] == ["higher"] * 6 + ["lower"] * 2
    for name in ("scenes", "pixel"):
        half = [m.direction for m in PRESETS[name].metrics if m.kind == "two-way"]
        assert half == sorted(half, reverse=True) and len(set(half)) == 2


def test_layers_of_a_network_share_one_pass(pictures, weights, monkeypatch):
    passes = []
    forward = torchvision.models.AlexNet.forward
    monkeypatch.setattr(
        torchvision.models.AlexNet,
        "forward",
        lambda self, x: passes.append(len(x)) or forward(self, x),
    )
    features(pictures, [m.space for m in PRESETS["takagi2023"].metrics[:3]], weights=weights)
    assert passes == [2]


def test_features_depend_neither_on_company_nor_on_the_cache(found, pictures, weights, tmp_path):
    spaces = [PRESETS["braindiffuser"].metrics[2].space, PRESETS["takagi2023"].metrics[4].space]
    last = pictures[1]
    kept = features([*pictures[::-1], last], spaces, weights=weights, cache=tmp_path)
    again = features(pictures, spaces, weights=weights, cache=tmp_path)
    for space in spaces:
        np.testing.assert_array_equal(kept[space], found[space.name][[1, 0, 1]])
        np.testing.assert_array_equal(again[space], found[space.name])


def test_weights_of_another_network_and_damaged_ones_are_named(pictures, weights, tmp_path):
    space = PRESETS["braindiffuser"].metrics[6].space
    file = tmp_path / FILES["efficientnet_b1"]
    file.write_bytes((weights / FILES["resnet50"]).read_bytes())
    with pytest.raises(
        PhospheneError, match=f"{file.name}: does not hold the weights of efficientnet_b1_v1"
    ):
        features(pictures[:1], [space], weights=tmp_path)
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(PhospheneError, match=f"{file.name}: cannot be read as tensors"):
        features(pictures[:1], [space], weights=tmp_path)


def test_a_file_that_runs_code_is_not_run(pictures, tmp_path):
    file = tmp_path / FILES["efficientnet_b1"]
    torch.save({"x": Trap(tmp_path / "sprung")}, file)
    with pytest.raises(PhospheneError, match=file.name):
        features(pictures[:1], [PRESETS["braindiffuser"].metrics[6].space], weights=tmp_path)
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_clip_without_its_vision_model_is_named(weights, pictures, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "clip-vit-large-patch14"
    folder.mkdir()
    source = weights / "clip-vit-large-patch14"
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    state = {
        k: v
        for k, v in load_file(source / "model.safetensors").items()
        if not k.startswith("visual_projection")
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        PhospheneError, match="does not hold CLIP's vision model: 1 tensors are missing"
    ):
        features(pictures[:1], [PRESETS["mindeye"].metrics[5].space], weights=tmp_path)


def test_the_stamp_follows_the_weights(weights, tmp_path):
    space = PRESETS["mindeye"].metrics[6].space
    before = stamp(space, weights)
    file = tmp_path / FILES["efficientnet_b1 again"]
    file.write_bytes((weights / file.name).read_bytes())
    assert stamp(space, tmp_path) == before  # the same bytes elsewhere
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert stamp(space, tmp_path) != before
    others = {stamp(m.space, weights) for name in PRESETS for m in PRESETS[name].metrics if m.space}
    assert len(others) == len(
        {
            (m.space.network, m.space.layer, m.space.preparation)
            for name in PRESETS
            for m in PRESETS[name].metrics
            if m.space
        }
    )


def test_safetensors_and_the_variable_serve_too(weights, pictures, tmp_path, monkeypatch, found):
    from safetensors.torch import save_file

    state = torch.load(weights / FILES["resnet50"], weights_only=True)
    save_file(
        {k: v.contiguous() for k, v in state.items()}, tmp_path / "swav_800ep_pretrain.safetensors"
    )
    monkeypatch.setenv("PHOSPHENE_WEIGHTS", str(tmp_path))
    space = PRESETS["braindiffuser"].metrics[7].space
    np.testing.assert_array_equal(features(pictures, [space])[space], found[space.name])
