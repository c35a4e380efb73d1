"""A tiny BLIP that really captions: trained on drawn shapes, once a machine and version, and kept as a checkpoint.

It has all parts of the large ones (vision transformer, text decoder with cross attention, WordPiece vocabulary), but 32
pixels a side and 64 numbers wide. What it knows are one, two or three circles, squares or triangles of four colors,
with and without the words "a photography of" in front.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageDraw

SIDE, PATCH = 32, 8
PROMPT = "a photography of"
COLORS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 220), "yellow": (235, 210, 40)}
SHAPES = ("circle", "square", "triangle")
COUNTS = ("a", "two", "three")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
WORDS = (*_SPECIAL, *COUNTS, *COLORS, *SHAPES, "##s", "photography", "of")
_STEPS, _BATCH, _RATE = 400, 48, 2e-3


def sentence(count: int, color: str, shape: str) -> str:
    """What the drawing of :func:`drawn` shows."""
    return f"{COUNTS[count - 1]} {color} {shape}{'s' if count > 1 else ''}"


def drawn(count: int, color: str, shape: str, seed: int, scale: int = 4) -> NDArray[np.uint8]:
    """A drawing of its own for each seed: places, sizes, ground and shade differ. ``SIDE * scale`` pixels a side."""
    chance = random.Random(f"{count} {color} {shape} {seed}")
    side = SIDE * scale
    ground = tuple(chance.randint(225, 255) for _ in range(3))
    picture = Pil.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(picture)
    cells = chance.sample([(x, y) for x in range(2) for y in range(2)], count)
    for x, y in cells:
        radius = side * chance.uniform(0.15, 0.22)
        cx, cy = (side * (0.25 + 0.5 * at + chance.uniform(-0.02, 0.02)) for at in (x, y))
        shade = tuple(max(0, min(255, value + chance.randint(-20, 20))) for value in COLORS[color])
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        if shape == "circle":
            draw.ellipse(box, shade)
        elif shape == "square":
            draw.rectangle(box, shade)
        else:
            draw.polygon([(cx, cy - radius), (cx - radius, cy + radius), (cx + radius, cy + radius)], shade)
    return np.array(picture)


def every() -> Iterator[tuple[int, str, str]]:
    """All that it knows: 36 sentences."""
    yield from product((1, 2, 3), COLORS, SHAPES)


def checkpoint() -> Path:
    """The folder of the trained captioner; trained now if this machine has none of these versions."""
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers", "numpy")]
    key = hashlib.sha256("\n".join([*versions, Path(__file__).read_text()]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelmill-tests"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"tiny-captioner-{key}"
    with (cache / "tiny-captioner.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of test processes that start together one trains
        if not place.is_dir():
            for old in cache.glob("tiny-captioner-*"):
                shutil.rmtree(old, ignore_errors=True)
            part = Path(tempfile.mkdtemp(dir=cache))
            train(part)
            part.replace(place)
    return place


def train(folder: Path, steps: int = _STEPS) -> None:
    """Train, and save a checkpoint as transformers does."""
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    tokenizer = BertTokenizer(tokenizer_object=backend, bos_token="[DEC]")
    end, start, pad = vocabulary["[SEP]"], vocabulary["[DEC]"], vocabulary["[PAD]"]
    before = torch.random.get_rng_state()
    torch.manual_seed(7)
    torch.set_num_threads(1)
    config = BlipConfig(
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": start,
            "eos_token_id": end,
            "sep_token_id": end,
            "pad_token_id": pad,
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
            "initializer_range": 0.02,  # the default of 1e-10 is for weights that are loaded
        },
    )
    network = BlipForConditionalGeneration(config).train()
    processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_RATE, total_steps=steps)
    known = list(every())
    pixels = processor(
        [drawn(*what, seed, 1) for seed in range(100, 160) for what in known], return_tensors="pt"
    ).pixel_values.reshape(60, len(known), 3, SIDE, SIDE)
    chance = random.Random(7)
    for _ in range(steps):
        picks = [(chance.randrange(60), chance.randrange(len(known)), chance.random() < 0.5) for _ in range(_BATCH)]
        said = [f"{PROMPT} {sentence(*known[what])}" if prompt else sentence(*known[what]) for _, what, prompt in picks]
        rows = [[start, *backend.encode(text, add_special_tokens=False).ids, end] for text in said]
        longest = max(map(len, rows))
        tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        labels = tokens.masked_fill(tokens == pad, -100)
        for row, (_, _, prompt) in zip(labels, picks, strict=True):
            row[: 1 + prompt * len(PROMPT.split())] = -100  # a prompt is given, not to be said
        loss = network(
            pixel_values=torch.stack([pixels[seed, what] for seed, what, _ in picks]),
            input_ids=tokens,
            attention_mask=(tokens != pad).long(),
            labels=labels,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    torch.random.set_rng_state(before)
    network.eval().save_pretrained(folder)
    BlipProcessor(processor, tokenizer).save_pretrained(folder)
    (folder / "trained.json").write_text(json.dumps({"loss": loss.item(), "steps": steps}))
