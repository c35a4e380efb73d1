"""One BLIP captioner (Li et al. 2022) in this process, through transformers and torch (the extra ``caption``).

The network is built from checked numbers, and weights are read by safetensors: no code of a checkpoint is ever looked
for, nothing is asked of the network, and what is checked is the whole of what is loaded. Runs one batch at a time a
process, on no more threads than it was given.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelmill.errors import InvalidParameter, MissingExtra, ModelRefused, OutOfMemory, PixelmillError, RunError
from pixelmill.models.checkpoint import TOKENIZER, Checkpoint, check_shapes, header_of, read_checkpoint
from pixelmill.models.model import NO_OPTIONS, Array, Nature, Options

EXTRA = "caption"
COMMAND = "pip install 'pixelmill[caption]'"
MAX_BEAMS, MAX_LENGTH, MAX_PROMPT = 10, 100, 200
"""Of a request: beams, tokens that are made, characters of the prompt."""
_MAX_BATCH = 8
_BATCH_BYTES = 512_000_000
_TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
"""Weights of the decoder that are those of other layers."""
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Read by the libraries when they are imported: no network, no threads of their own, and idle threads that sleep. By
default they spin, which costs several times the time on cores that have other work to do."""


def prepare_process() -> None:
    """Set that environment; for processes of this program, a library leaves its user's alone.

    It is a second lock: nothing here ever gives the libraries a name that they could look up elsewhere.
    """
    os.environ.update(_ENVIRONMENT)


def is_installed() -> bool:
    """Whether torch and transformers are there; they are not imported, so whether they work is not known."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers", "safetensors"))


@dataclass(frozen=True, slots=True)
class _Asked:
    """Options of a run, checked."""

    prompt: str
    beams: int
    length: int
    device: str


class BlipModel:
    """A captioner: a :class:`Model` that batches. ``threads`` bounds what one call may use.

    An item is ``side×side×3`` bytes of RGB; what comes out is the caption as UTF-8 bytes, and whether it came to its
    end (1) or was cut at the length (0). Options: ``prompt``, ``beams``, ``length``, ``device``.
    """

    def __init__(self, weights: Path, name: str, *, threads: int = 1) -> None:
        """Load; raises :class:`ModelRefused`, :class:`MissingExtra`, :class:`OutOfMemory`."""
        self._torch, transformers = _libraries()
        checkpoint = read_checkpoint(weights, name)
        self._checkpoint, self._threads = checkpoint, max(1, threads)
        self._nature = Nature(name, "caption", "blip", (checkpoint.side, checkpoint.side, 3), "uint8")
        self.at_once = max(1, min(_MAX_BATCH, _BATCH_BYTES // checkpoint.item_bytes))
        """How many may go in at once, as far as memory is concerned."""
        self._tokenizer = _tokenizer(checkpoint)
        with _alone, self._bounded(), _translated(self._torch, name):
            self._network = _network(self._torch, transformers, checkpoint)
        self._device = "cpu"

    @property
    def nature(self) -> Nature:
        """What it is."""
        return self._nature

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        """The caption of one picture."""
        return self.run_batch([item], options)[0]

    def run_batch(self, items: list[Array], options: Options = NO_OPTIONS) -> list[tuple[Array, ...]]:
        """The captions of pictures that were asked for with the same options, in one call.

        Raises :class:`InvalidParameter`, :class:`OutOfMemory`, :class:`RunError`.
        """
        asked = _asked(options)
        start = self._start(asked)
        with _alone, self._bounded(), _translated(self._torch, self._nature.name), self._torch.inference_mode():
            self._move(asked.device)
            pixels = self._torch.from_numpy(self._standardized(items)).to(self._device)
            tokens = self._torch.tensor([start] * len(items), device=self._device)
            made = self._network.generate(
                pixels,
                tokens,
                self._torch.ones_like(tokens),
                max_new_tokens=asked.length,
                num_beams=asked.beams,
                do_sample=False,
            ).tolist()
        return [self._told(row[1:]) for row in made]

    def _start(self, asked: _Asked) -> list[int]:
        """The tokens that stand in front of the caption, and the end that the network takes off again."""
        text = self._checkpoint.text
        prompt = self._tokenizer.encode(asked.prompt, add_special_tokens=False).ids if asked.prompt else []
        room = self._checkpoint.positions - 1 - len(prompt)
        if asked.length > room:
            parameter = "length" if room > 0 else "prompt"
            raise InvalidParameter(
                f"caption: the model {self._nature.name} holds {self._checkpoint.positions:,} tokens; the prompt has "
                f"{len(prompt):,}, and length asks for {asked.length:,} more. Ask for less.",
                operation="caption",
                parameter=parameter,
                allowed=f"at most {max(0, room)}",
            )
        return [text["bos_token_id"], *prompt, text["sep_token_id"]]

    def _standardized(self, items: list[Array]) -> Array:
        """``N×3×side×side``, as the network was trained on."""
        samples: Array = np.stack(items).astype(np.float32) * np.float32(1 / 255)
        mean, std = np.array(self._checkpoint.mean, np.float32), np.array(self._checkpoint.std, np.float32)
        return np.ascontiguousarray(((samples - mean) / std).transpose(0, 3, 1, 2))

    def _told(self, tokens: list[int]) -> tuple[Array, ...]:
        end = self._checkpoint.text["sep_token_id"]
        whole = end in tokens
        text = self._tokenizer.decode(tokens[: tokens.index(end)] if whole else tokens, skip_special_tokens=True)
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return np.frombuffer(line.encode("utf-8", "replace"), np.uint8), np.array([whole], np.uint8)

    def _move(self, device: str) -> None:
        """The network to where it is to run; it stays there."""
        wanted = _device(self._torch, device)
        if wanted != self._device:
            self._network.to(wanted)
            self._device = wanted

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        """As many threads as were given, whatever a program around it has set."""
        before = self._torch.get_num_threads()
        if before == self._threads:
            yield
            return
        self._torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            self._torch.set_num_threads(before)


def caption_of(outputs: tuple[Array, ...]) -> tuple[str, bool]:
    """The caption in what a model gave, and whether it came to its end."""
    return bytes(outputs[0]).decode("utf-8", "replace"), bool(outputs[1][0])


_alone = threading.Lock()
"""Torch's threads are those of the process: two runs at once would take twice as many."""
_import_lock = threading.Lock()


def _libraries() -> tuple[Any, Any]:
    with _import_lock:
        try:
            torch: Any = importlib.import_module("torch")
            transformers: Any = importlib.import_module("transformers")
            importlib.import_module("safetensors.torch")
        except ImportError as error:
            raise MissingExtra(
                f"Captions need an extra that is not installed here. Install it: {COMMAND}", extra=EXTRA
            ) from error
    return torch, transformers


def _tokenizer(checkpoint: Checkpoint) -> Any:
    """What turns words into tokens and back; it must be of the same vocabulary as the network."""
    path = checkpoint.folder / TOKENIZER
    try:
        tokenizer: Any = importlib.import_module("tokenizers").Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # words of a prompt are words, even where they look like "[SEP]"
        size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id("[SEP]")
    except Exception as error:  # of the library, which has no common base
        raise ModelRefused(
            f"The tokenizer of {checkpoint.name} ({path}) can't be read: {_first_line(error)}.", model=checkpoint.name
        ) from error
    if size > checkpoint.text["vocab_size"] or end != checkpoint.text["sep_token_id"]:
        raise ModelRefused(
            f"The tokenizer of {checkpoint.name} ({path}) is that of another model: it has {size:,} tokens and ends a "
            f"sentence by number {end}; the network knows {checkpoint.text['vocab_size']:,}, and ends by "
            f"{checkpoint.text['sep_token_id']}.",
            model=checkpoint.name,
        )
    return tokenizer


def _network(torch: Any, transformers: Any, checkpoint: Checkpoint) -> Any:
    """The network with its weights. Nothing of its size is allocated before the weights are known to fit."""
    with _quiet():
        config = transformers.BlipConfig(text_config=dict(checkpoint.text), vision_config=dict(checkpoint.vision))
        config._attn_implementation = "eager"  # noqa: SLF001 - the one choice that never looks for other code
        with torch.device("meta"):
            network = transformers.BlipForConditionalGeneration(config)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    tied = {key: source for key, source in _TIED.items() if key in shapes and checkpoint.tied}
    wanted = {key: shape for key, shape in shapes.items() if key not in tied}
    if not checkpoint.pickled:
        check_shapes(header_of(checkpoint.weights, checkpoint.name), wanted, checkpoint)
    found = _weights(torch, checkpoint)
    check_shapes({key: tuple(value.shape) for key, value in found.items()}, wanted, checkpoint)
    # Copies: weights that stay mapped would end the process where somebody cuts the file.
    state = {key: found[key].to(torch.float32, copy=True) for key in wanted}
    state |= {key: state[source] for key, source in tied.items()}
    network.load_state_dict(state, strict=True, assign=True)
    _fill_buffers(torch, network, checkpoint)
    return network.eval().requires_grad_(False)


def _weights(torch: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        if checkpoint.pickled:  # asked for by configuration; what is no tensor is refused by this reader
            found = torch.load(checkpoint.weights, map_location="cpu", weights_only=True)
        else:
            found = importlib.import_module("safetensors.torch").load_file(checkpoint.weights)
    except MemoryError:
        raise
    except Exception as error:  # of the libraries, which have no common base
        raise ModelRefused(
            f"The weights of {checkpoint.name} ({checkpoint.weights}) can't be read: {_first_line(error)}. They are "
            "truncated, damaged, or hold more than numbers.",
            model=checkpoint.name,
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelRefused(f"The weights of {checkpoint.name} ({checkpoint.weights}) are no weights.")
    return found


def _fill_buffers(torch: Any, network: Any, checkpoint: Checkpoint) -> None:
    """Numbers that no checkpoint holds, as they are computed anew by each network: those of positions."""
    for module in network.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if not buffer.is_meta:
                continue
            if name != "position_ids":
                raise RunError(f"This version of transformers has a BLIP that {checkpoint.name} does not fit ({name}).")
            module.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)


def _device(torch: Any, asked: str) -> str:
    """The device that is meant; raises :class:`InvalidParameter` where it is not here."""
    accelerated = torch.cuda.is_available()
    here = ["cpu"]
    if accelerated:
        here += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if asked == "auto":
        return here[1] if len(here) > 1 else "cpu"
    if asked not in here:
        raise InvalidParameter(
            f"caption: there is no device {asked!r} on this machine; there is {', '.join(here)}. device=auto takes "
            "the fastest.",
            operation="caption",
            parameter="device",
            allowed=", ".join(("auto", *here)),
        )
    return asked


def _asked(options: Options) -> _Asked:
    """Raises :class:`InvalidParameter` for what an operation would not have sent."""
    prompt, device = options.get("prompt", ""), options.get("device", "auto")
    beams, length = options.get("beams", 1), options.get("length", 30)
    if (
        not isinstance(prompt, str)
        or not isinstance(device, str)
        or not isinstance(beams, int)
        or not isinstance(length, int)
        or len(prompt) > MAX_PROMPT
        or not 1 <= beams <= MAX_BEAMS
        or not 1 <= length <= MAX_LENGTH
    ):
        raise InvalidParameter("caption: an option is out of its range.", operation="caption")
    return _Asked(prompt, beams, length, device)


@contextlib.contextmanager
def _translated(torch: Any, name: str) -> Iterator[None]:
    """The libraries' errors as those of the tree."""
    try:
        yield
    except PixelmillError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _no_memory(name) from error
    except Exception as error:  # the seam: the libraries' errors have no common base
        if "not enough memory" in str(error) or "alloc" in str(error).lower():
            raise _no_memory(name) from error
        raise RunError(f"The model {name} failed with a {type(error).__name__}: {_first_line(error)}.") from error


def _no_memory(name: str) -> OutOfMemory:
    return OutOfMemory(
        f"There is not enough memory for the model {name}. Use a smaller model, or fewer beams.", model=name
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what transformers says to developers."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(". ")[:300]
