"""Pictures per second: the original's way, diffusers' pipeline, ours; latents z and contexts c to
8-bit pictures.

The three run in turn, A B C A B C, on the same z, c, 50 steps at strength 0.8 (40 are made) and
guidance 5:

original   one picture after the other, autocast, eager, attention written out, weights in torch's
default layout, the
           empty prompt encoded again for every picture. On a CPU autocast is bfloat16 where that is
           faster, else off; both were tried and are in the result. Loading the model for every
           picture is left out: in its favour.
diffusers  ``StableDiffusionImg2ImgPipeline`` with its DDIM scheduler at the batch that was fastest
of those tried. ours       ``LatentDiffusion.denoise`` as the reconstruct stage calls it.

``floor_seconds``: operations of one picture (torch's FLOP counter; two rows of the U-Net per step,
one decoded picture) at the rate of a large matrix product just measured in the U-Net's precision.
``share_of_ceiling`` is that over ours.

``--small``, the default without a GPU, takes the bundled model on the CPU; ``--sd14`` the
architecture of Stable Diffusion 1.4 with random weights on a GPU; with ``--quick`` tiny nets of the
same classes and a few steps, on any device. On a GPU ``peak_mib`` is the most memory that PyTorch
allocated. The JSON goes to stdout and to a file.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from common import machine_facts
from torch import Tensor

from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.schedule import NoiseSchedule
from phosphene.models.diffusion.sources import BUNDLED

Json = dict[str, Any]
STEPS = 50
STRENGTH = 0.8
GUIDANCE = 5.0
QUICK_STEPS = 3
# that of Stable Diffusion 1.4
SCHEDULER = json.loads((BUNDLED / "scheduler" / "scheduler_config.json").read_text())


class Problem:
    """A model and the rows that all three ways begin with.

    Parameters
    ----------
    model : LatentDiffusion
    n : int
        Number of pictures.
    steps : int
        Of a whole schedule.
    """

    def __init__(self, model: LatentDiffusion, n: int, steps: int = STEPS) -> None:
        draw = np.random.default_rng(0).standard_normal
        self.model = model
        self.n = n
        self.steps = steps
        self.z = draw((n, int(np.prod(model.latent_shape()))), np.float32)
        self.c = draw((n, int(np.prod(model.context_shape))), np.float32)
        self.tokens = model.tokenizer(
            [""], padding="max_length", max_length=model.context_shape[0], return_tensors="pt"
        ).input_ids.to(model.device)


def sd14(device: str, quick: bool = False) -> LatentDiffusion:
    """Build Stable Diffusion 1.4 with random weights; its tokenizer knows the empty prompt only.

    With `quick` all nets are narrow and the pictures small.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    widths = (32, 32, 64, 64) if quick else (128, 256, 512, 512)
    unet_widths = (32, 64, 64, 64) if quick else (320, 640, 1280, 1280)
    width, n_layers, side = (64, 1, 8) if quick else (768, 12, 64)
    down = ("DownEncoderBlock2D",) * 4
    up = ("UpDecoderBlock2D",) * 4
    with torch.device(device):
        vae = AutoencoderKL(
            block_out_channels=widths, down_block_types=down, up_block_types=up, layers_per_block=2
        )
        unet = UNet2DConditionModel(
            sample_size=side, cross_attention_dim=width, block_out_channels=unet_widths
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=n_layers,
                num_attention_heads=width // 64,
            )
        )
    unet = unet.half() if device.startswith("cuda") else unet
    for net in (vae, unet, text):
        net.eval().requires_grad_(False)

    def tokenizer(prompts: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.tensor([[49406] + [49407] * 76] * len(prompts)))

    return LatentDiffusion(vae, unet, text, tokenizer, NoiseSchedule.from_config(SCHEDULER))


class Original:
    """One picture after the other, as the released code does it."""

    def __init__(self, problem: Problem, autocast: torch.dtype | None) -> None:
        from diffusers import DDIMScheduler
        from diffusers.models.attention_processor import AttnProcessor

        model = problem.model
        plain = torch.contiguous_format
        self.problem = problem
        self.autocast = autocast
        self.vae, self.unet, self.text = (
            copy.deepcopy(net).float().to(memory_format=plain)
            for net in (model.vae, model.unet, model.text)
        )
        for net in (self.unet, self.vae):
            net.set_attn_processor(AttnProcessor())
        self.scheduler = DDIMScheduler.from_config(SCHEDULER)

    def __call__(self, n: int) -> list[np.ndarray]:
        on = (
            torch.autocast(self.problem.model.device.type, self.autocast)
            if self.autocast
            else nullcontext()
        )
        with torch.inference_mode(), on:
            return [self._one(k) for k in range(n)]

    def _one(self, k: int) -> np.ndarray:
        model = self.problem.model
        device = self.problem.model.device
        z, c = (
            torch.from_numpy(rows[k : k + 1]).to(device)
            for rows in (self.problem.z, self.problem.c)
        )
        empty = self.text(self.problem.tokens).last_hidden_state
        both = torch.cat([empty, c.reshape(1, *model.context_shape)])
        steps = self.problem.steps
        self.scheduler.set_timesteps(steps)
        visited = self.scheduler.timesteps[steps - int(steps * STRENGTH) :]
        x = z.reshape(1, *model.latent_shape())
        x = self.scheduler.add_noise(x, torch.randn_like(x), visited[:1])
        for t in visited:
            without, given = self.unet(torch.cat([x, x]), t, both).sample.chunk(2)
            x = self.scheduler.step(without + GUIDANCE * (given - without), t, x).prev_sample
        pixels = self.vae.decode(x / self.vae.config.scaling_factor).sample
        grey: Tensor = (pixels.float().clamp(-1, 1) + 1) * 127.5
        return grey.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


class Diffusers:
    """Diffusers' own pipeline, some pictures at once, weights in the precision that ours have in
    the U-Net.
    """

    def __init__(self, problem: Problem) -> None:
        from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

        model = problem.model
        self.problem = problem
        self.batch = 1
        nets = (
            copy.deepcopy(net).to(model.dtype, memory_format=torch.contiguous_format)
            for net in (model.vae, model.text, model.unet)
        )
        vae, text, unet = nets
        self.pipe = StableDiffusionImg2ImgPipeline(
            vae,
            text,
            None,
            unet,
            DDIMScheduler.from_config(SCHEDULER),
            None,
            None,
            requires_safety_checker=False,
        )
        self.pipe.set_progress_bar_config(disable=True)

    def __call__(self, n: int) -> list[np.ndarray]:
        return [self._some(slice(k, min(k + self.batch, n))) for k in range(0, n, self.batch)]

    @torch.inference_mode()
    def _some(self, rows: slice) -> np.ndarray:
        model = self.problem.model
        z, c = (
            torch.from_numpy(some[rows]).to(model.device, model.dtype)
            for some in (self.problem.z, self.problem.c)
        )
        empty = self.pipe.text_encoder(self.problem.tokens).last_hidden_state.repeat(len(c), 1, 1)
        made = self.pipe(
            prompt_embeds=c.reshape(-1, *model.context_shape),
            negative_prompt_embeds=empty,
            image=z.reshape(-1, *model.latent_shape()),
            strength=STRENGTH,
            num_inference_steps=self.problem.steps,
            guidance_scale=GUIDANCE,
            output_type="np",
        )
        return (made.images * 255).round().astype(np.uint8)


def ours(problem: Problem, batch: int = 0) -> Callable[[int], list[np.ndarray]]:
    """Give the way of the reconstruct stage: each batch starts before the pictures of the one
    before are fetched.
    """
    model = problem.model
    at_once = problem.model.batch(batch)

    def run(n: int) -> list[np.ndarray]:
        made: list[Any] = []
        for k in range(0, n, at_once):
            rows = slice(k, min(k + at_once, n))
            seeds = range(rows.start, rows.stop)
            made.append(
                model.denoise_later(
                    problem.z[rows],
                    problem.c[rows],
                    strength=STRENGTH,
                    steps=problem.steps,
                    guidance=GUIDANCE,
                    seeds=seeds,
                )
            )
            if k:
                made[-2] = made[-2]()
        return [*made[:-1], made[-1]()]

    return run


def timed(work: Callable[[int], object], n: int) -> float:
    """Seconds of `n` pictures."""
    started = time.perf_counter()
    work(n)
    return time.perf_counter() - started


def matmul_rate(device: torch.device, dtype: torch.dtype, quick: bool = False) -> float:
    """Measure operations per second of a large square product, the best of ten."""
    size = 300 if quick else 8192 if device.type == "cuda" else 3000
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


@torch.inference_mode()
def operations(model: LatentDiffusion) -> Json:
    """Count operations: one step of one picture with guidance, and one decoded picture."""
    from torch.utils.flop_counter import FlopCounterMode

    z = torch.zeros(1, *model.latent_shape(), device=model.device)
    c = torch.zeros(1, *model.context_shape, device=model.device)
    with FlopCounterMode(display=False) as step:
        model.unet(torch.cat([z, z]).to(model.dtype), 1, torch.cat([c, c]).to(model.dtype))
    with FlopCounterMode(display=False) as decoding:
        model.vae.decode(z)
    return {"step": step.get_total_flops(), "decoding": decoding.get_total_flops()}


def choose(problem: Problem, batches: list[int], log: Json) -> dict[str, Callable[[int], Any]]:
    """Try the settings of the other two once and keep the fastest."""
    device = problem.model.device.type
    lower = torch.float16 if device == "cuda" else torch.bfloat16
    casts = [lower] if device == "cuda" else [None, lower]
    originals = {str(cast): Original(problem, cast) for cast in casts}
    tried = {}
    for name, way in originals.items():
        way(1)
        tried[name] = 2 / timed(way, 2)
    cast = max(tried, key=tried.__getitem__)
    pipe = Diffusers(problem)
    speeds = {}
    for pipe.batch in batches:
        pipe(pipe.batch)
        speeds[pipe.batch] = problem.n / timed(pipe, problem.n)
    pipe.batch = max(speeds, key=speeds.__getitem__)
    log |= {
        "original_autocast": cast,
        "original_tried": tried,
        "diffusers_batch": pipe.batch,
        "diffusers_tried": speeds,
    }
    return {"original": originals[cast], "diffusers": pipe}


def peak_mib(device: torch.device) -> float | None:
    """Most memory that was allocated on a GPU since this was last asked."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def measure(
    problem: Problem,
    batches: list[int],
    repeats: int,
    of_original: int,
    compiled: bool,
    end: float = float("inf"),
) -> Json:
    """Measure all three in turn: pictures per second, and the distance from the floor.

    No repeat but the first begins when it would last beyond `end` on the clock ``time.monotonic``.
    """
    log: Json = {
        "pictures": problem.n,
        "pictures_of_original": of_original,
        "batch_of_ours": problem.model.batch(),
    }
    ways = choose(problem, batches, log) | {"ours": ours(problem)}
    if compiled:
        problem.model.compile()
    ways["ours"](problem.n)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, float | None] = {}
    for number in range(repeats):
        started = time.monotonic()
        for name, way in ways.items():
            n = of_original if name == "original" else problem.n
            peak_mib(problem.model.device)
            speeds[name].append(n / timed(way, n))
            peaks[name] = peak_mib(problem.model.device)
        if 2 * time.monotonic() - started > end:
            print(f"ended after repeat {number + 1} of {repeats}", file=sys.stderr)
            break
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    count = operations(problem.model)
    floor = int(problem.steps * STRENGTH) * count["step"] + count["decoding"]
    rate = matmul_rate(problem.model.device, problem.model.dtype, problem.steps == QUICK_STEPS)
    return log | {
        "pictures_per_second": medians,
        "all_pictures_per_second": speeds,
        "peak_mib": peaks,
        "ours_over_original": medians["ours"] / medians["original"],
        "ours_over_diffusers": medians["ours"] / medians["diffusers"],
        "operations": count,
        "matmul_flops": rate,
        "floor_seconds": floor / rate,
        "share_of_ceiling": floor / rate * medians["ours"],
        "compiled": compiled,
    }


def rounded(value: Any) -> Any:
    """Round the numbers of a JSON tree to four digits."""
    if isinstance(value, dict):
        return {str(key): rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--small", action="store_true", help="the bundled model on the CPU")
    which.add_argument(
        "--sd14",
        action="store_true",
        help="Stable Diffusion 1.4's architecture, random weights, on a GPU",
    )
    parser.add_argument("--pictures", type=int, default=0, help="pictures of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile in ours")
    parser.add_argument(
        "--batches", type=int, nargs="+", metavar="N", help="batches that diffusers tries"
    )
    parser.add_argument("--device", default="cuda", help="of --sd14")
    parser.add_argument(
        "--quick", action="store_true", help="--sd14 with tiny nets, to try it; no figures to quote"
    )
    parser.add_argument(
        "--stop", type=float, default=float("inf"), metavar="SECONDS", help="begin no repeat after"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    end = time.monotonic() + args.stop
    large = args.sd14 or (torch.cuda.is_available() and not args.small)
    if large and not args.quick and not torch.cuda.is_available():
        sys.exit("--sd14 needs a GPU; --small runs on the CPU.")
    model = sd14(args.device, args.quick) if large else LatentDiffusion.load("bundled", "cpu")
    n_pictures = args.pictures or (2 if args.quick else 64 if large else 16)
    problem = Problem(model, n_pictures, QUICK_STEPS if args.quick else STEPS)
    batches = args.batches or (
        [1, 2] if args.quick else [1, 4, 8, 16, 32] if large else [1, 2, 4, 8, 16]
    )
    repeats, of_original = (1, 1) if args.quick else (args.repeats, min(4, n_pictures))
    found = measure(problem, batches, repeats, of_original, args.compile, end)
    name = "sd14" if large else "small"
    facts = machine_facts("numpy", "torch", "diffusers", "transformers") | {
        "threads": torch.get_num_threads()
    }
    if model.device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(model.device)
    path = args.out / ("sampling-quick.json" if args.quick else "sampling.json")
    args.out.mkdir(parents=True, exist_ok=True)
    results: Json = json.loads(path.read_text()) if path.exists() else {}
    results[name] = rounded(
        found | {"machine": facts, "measured": datetime.now().isoformat(timespec="seconds")}
    )
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results[name], indent=1))


if __name__ == "__main__":
    main()
