"""What captions cost: CPU seconds and memory by beams and batch, with weights of BLIP's shapes that were never trained.

``python bench/captions.py [--size base|large] [--threads N] [--keep FOLDER]``

What the numbers in weights are changes neither time nor memory; only a caption's end comes from them, so exactly
``--tokens`` tokens are made. CPU seconds of the process are told, as the machine may have other work; ratios are to one
picture at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pixelmill.models.blip import BlipModel, prepare_process

VOCABULARY, SEPARATOR = 30_524, 102
SHAPES: dict[str, dict[str, Any]] = {
    "base": {"hidden_size": 768, "intermediate_size": 3_072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1_024, "intermediate_size": 4_096, "num_hidden_layers": 24, "num_attention_heads": 16},
}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def made(folder: Path, size: str) -> Path:
    """A checkpoint folder with weights of these shapes."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {"num_attention_heads": 12, "vocab_size": VOCABULARY, "bos_token_id": VOCABULARY - 2}
    config = BlipConfig(vision_config=SHAPES[size], text_config=text)
    with torch.device("meta"):
        network = BlipForConditionalGeneration(config)
    torch.manual_seed(1)
    state = {key: torch.randn(value.shape) * 0.02 for key, value in network.state_dict().items()}
    for key in ("weight", "bias"):
        state.pop(f"text_decoder.cls.predictions.decoder.{key}")
    # The end of a sentence is made unlikely, so that each has its full length.
    state["text_decoder.cls.predictions.bias"][SEPARATOR] = -100
    save_file(state, folder / "model.safetensors")
    words = {f"w{number}": number for number in range(VOCABULARY)}
    words["[SEP]"] = words.pop(f"w{SEPARATOR}")
    Tokenizer(models.WordPiece(words, unk_token="w1")).save(str(folder / "tokenizer.json"))
    said = {
        "model_type": "blip",
        "architectures": ["BlipForConditionalGeneration"],
        "vision_config": SHAPES[size],
        "text_config": text,
    }
    (folder / "config.json").write_text(json.dumps(said))
    prepared = {"size": {"height": 384, "width": 384}, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


def resident(what: str = "VmRSS") -> float:
    """MB of this process now (``VmHWM``: at most since the last :func:`forget`)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024 / 1e6


def forget() -> None:
    """Begin to look for the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def spent() -> float:
    """CPU seconds of all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", choices=SHAPES, default="base")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "preprocessor_config.json").exists():
            made(folder, arguments.size)
        before, start = resident(), spent()
        model = BlipModel(folder / "model.safetensors", arguments.size, threads=arguments.threads)
        print(f"{arguments.size}: {(folder / 'model.safetensors').stat().st_size / 1e6:,.0f} MB of weights")
        print(f"loaded in {spent() - start:.1f} CPU s; {before:,.0f} MB before, {resident():,.0f} MB after")
        print(f"at_once {model.at_once}")
    picture = np.random.default_rng(1).integers(0, 256, model.nature.shape, dtype=np.uint8)
    print("| beams | batch | tokens | CPU s a picture | of one at a time | MB at the peak |\n|---|---|---|---|---|---|")
    for beams in (1, 3):
        alone = 0.0
        for batch, tokens in ((1, 1), (1, arguments.tokens), (2, arguments.tokens), (4, arguments.tokens)):
            forget()
            start = spent()
            model.run_batch([picture] * batch, {"beams": beams, "length": tokens})
            each = (spent() - start) / batch
            alone = each if (batch, tokens) == (1, arguments.tokens) else alone
            ratio = f"{each / alone:.2f}" if alone else ""
            print(f"| {beams} | {batch} | {tokens} | {each:.2f} | {ratio} | {resident('VmHWM'):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
