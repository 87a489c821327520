"""The text encoder: trained with pictures as CLIP is (Radford et al. 2021), then frozen."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import BUNDLED, Run, Scenes, rank
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BEGIN = "<|startoftext|>"
END = "<|endoftext|>"


def make_tokenizer(captions: list[list[str]], length: int) -> None:
    """Learn byte pairs from the captions and save them in CLIP's own format, vocab.json and
    merges.txt.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator((c for group in captions for c in group), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in learned["merges"]]
    words = [
        *sorted(alphabet),
        *(a + "</w>" for a in sorted(alphabet)),
        *(m.replace(" ", "") for m in merges),
        BEGIN,
        END,
    ]
    folder = BUNDLED / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({w: i for i, w in enumerate(dict.fromkeys(words))}, ensure_ascii=False)
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {**special, "model_max_length": length, "tokenizer_class": "CLIPTokenizer"}, indent=2
        )
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))


class PictureTower(nn.Module):
    """The other half of the contrast, discarded after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((3, 32), (32, 64), (64, 128), (128, 192)):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(192 * 16, width))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layers(pictures)


def build(config: dict[str, Any], tokenizer: CLIPTokenizer) -> CLIPTextModel:
    part = config["text"]
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=part["width"],
            intermediate_size=4 * part["width"],
            num_hidden_layers=part["layers"],
            num_attention_heads=part["heads"],
            max_position_embeddings=part["length"],
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            hidden_act="quick_gelu",
        )
    )


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def train(config: dict[str, Any]) -> None:
    scenes = Scenes(config)
    part = config["text"]
    torch.manual_seed(config["seed"] + 1)
    if not rank():
        make_tokenizer(scenes.captions, part["length"])
    if dist.is_initialized():
        dist.barrier()
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED / "tokenizer")
    model = build(config, tokenizer)
    tower = PictureTower(part["width"]).to(memory_format=torch.channels_last)
    scale = nn.ParameterDict(
        {"log": nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))}
    )
    run = Run(
        "text", config["folder"], {"text": model, "tower": tower, "scale": scale}, part["rate"]
    )
    while run.step < part["steps"]:
        rng = np.random.default_rng([config["seed"], 2, run.step, rank()])
        ids = np.sort(rng.choice(scenes.n_train, part["batch"], replace=False))
        said = [scenes.captions[i][rng.integers(5)] for i in ids]
        words = F.normalize(model(tokens(tokenizer, said)).pooler_output, dim=1)
        seen = F.normalize(tower(scenes.tensor(ids)), dim=1)
        logits = scale["log"].exp().clamp(max=100) * words @ seen.T
        target = torch.arange(len(ids))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        run.advance(loss, run.step / part["steps"])
        if run.step % 100 == 0:
            run.say(
                loss=float(loss.detach()), right=float((logits.argmax(1) == target).float().mean())
            )
    run.save()
    if not rank():
        model.half().save_pretrained(BUNDLED / "text_encoder")
