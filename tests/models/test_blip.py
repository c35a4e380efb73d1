"""A captioner in this process: what it says of drawings it has never seen, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from tiny_captioner import MEAN, PROMPT, SIDE, STD, drawn, every, sentence

from pixelmill.errors import InvalidParameter, MissingExtra, ModelMissing, ModelRefused
from pixelmill.models.blip import COMMAND, BlipModel, caption_of
from pixelmill.models.checkpoint import read_checkpoint
from pixelmill.models.families import captioner_input
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Array, Batching, Options, Wanted
from pixelmill.models.sessions import Sessions

pytestmark = pytest.mark.timeout(600)  # the first run of these versions trains

UNSEEN = 5
"""A drawing that was not trained on: those had 100 and more."""


@pytest.fixture(scope="module")
def model(captioner: Path) -> BlipModel:
    return BlipModel(captioner / "model.safetensors", "tiny", threads=1)


@pytest.fixture
def copy(captioner: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return shutil.copytree(captioner, tmp_path / "mine")


def item(what: tuple[int, str, str], seed: int = UNSEEN) -> Array:
    return captioner_input(drawn(*what, seed), (SIDE, SIDE, 3))


def said(model: BlipModel, what: tuple[int, str, str], **options: Any) -> str:
    return caption_of(model.run(item(what), options))[0]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_unseen_drawings_get_their_right_captions(model: BlipModel, prompt: str, beams: int) -> None:
    expected = [f"{prompt} {sentence(*what)}".strip() for what in every()]
    assert [said(model, what, prompt=prompt, beams=beams) for what in every()] == expected


def test_a_batch_says_what_each_says_alone(model: BlipModel) -> None:
    assert isinstance(model, Batching)
    assert model.at_once > 1
    whats = list(every())[::5]
    asked: tuple[Options, ...] = ({}, {"beams": 3}, {"prompt": PROMPT, "length": 4})
    for options in asked:
        together = model.run_batch([item(what) for what in whats], options)
        for outputs, what in zip(together, whats, strict=True):
            assert caption_of(outputs) == caption_of(model.run(item(what), options))


def test_a_prompt_is_how_the_caption_begins(model: BlipModel) -> None:
    assert said(model, (2, "blue", "square"), prompt="two blue") == "two blue squares"
    assert said(model, (2, "blue", "square"), prompt="Two BLUE") == "two blue squares"
    assert said(model, (1, "red", "circle"), prompt="[SEP]").count("[SEP]") == 0


def test_a_caption_that_is_cut_says_so(model: BlipModel) -> None:
    assert caption_of(model.run(item((1, "red", "circle")), {"length": 2})) == ("a red", False)
    assert caption_of(model.run(item((1, "red", "circle")), {"length": 4})) == ("a red circle", True)


def test_what_is_longer_than_the_model_holds_is_refused(model: BlipModel) -> None:
    with pytest.raises(InvalidParameter, match="holds 64 tokens; the prompt has 40") as caught:
        said(model, (1, "red", "circle"), prompt=" ".join(["red"] * 40), length=30)
    assert caught.value.context["parameter"] == "length"
    with pytest.raises(InvalidParameter, match="the prompt has 65") as caught:
        said(model, (1, "red", "circle"), prompt="of " * 65, length=1)
    assert caught.value.context["parameter"] == "prompt"


@pytest.mark.parametrize(
    "options", [{"beams": 0}, {"beams": 11}, {"length": 101}, {"length": "9"}, {"prompt": 3}, {"prompt": "x" * 201}]
)
def test_options_out_of_range_are_refused_here_too(model: BlipModel, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        said(model, (1, "red", "circle"), **options)


def test_a_device_that_is_not_here_is_refused(model: BlipModel) -> None:
    assert said(model, (3, "green", "triangle"), device="cpu") == "three green triangles"
    with pytest.raises(InvalidParameter, match=r"no device 'cuda:77' on this machine; there is cpu") as caught:
        said(model, (1, "red", "circle"), device="cuda:77")
    assert caught.value.context["parameter"] == "device"


def test_pictures_are_prepared_as_transformers_does(model: BlipModel) -> None:
    from transformers import BlipImageProcessorPil

    picture = np.random.default_rng(4).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    theirs = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})(Pil.fromarray(picture), return_tensors="np")
    ours = model._standardized([captioner_input(picture, (SIDE, SIDE, 3))])
    assert np.abs(ours - theirs["pixel_values"]).max() < 1e-5


def test_it_says_what_transformers_makes_of_the_same_checkpoint(model: BlipModel, captioner: Path) -> None:
    """The plain way, by the library's own loader, processor and decoding."""
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = BlipForConditionalGeneration.from_pretrained(str(captioner), local_files_only=True).eval()
    tokenizer = BertTokenizer.from_pretrained(str(captioner), local_files_only=True)
    processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    for what in list(every())[::7]:
        given = processor(Pil.fromarray(drawn(*what, UNSEEN)), return_tensors="pt")
        plain = tokenizer.decode(network.generate(**given, max_new_tokens=30)[0], skip_special_tokens=True)
        assert plain == said(model, what)


def test_it_is_found_by_path_and_by_name(captioner: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(captioner, models / "shapes")
    shutil.copytree(captioner, models / "blip-base")
    sessions = Sessions(ModelFolder(models), threads=1)
    for name in (str(captioner), str(captioner / "model.safetensors"), "shapes", "blip-base"):
        found = sessions.load(Wanted(name, "caption"))
        assert found is not None
        assert caption_of(found.run(item((1, "blue", "square"))))[0] == "a blue square"
    assert sessions.folder.find(Wanted("blip-base", "caption")).memory == sessions.folder.registry["blip-base"].memory
    with pytest.raises(ModelMissing, match="pixelmill models pull blip-large --from PLACE"):
        sessions.load(Wanted("blip-large", "caption"))
    with pytest.raises(InvalidParameter, match="says in a sentence"):
        sessions.load(Wanted("u2netp", "caption"))
    with pytest.raises(ModelRefused, match="no ONNX file"):
        sessions.load(Wanted("shapes", "classification"))


def test_it_counts_for_the_memory_of_all_sessions(captioner: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(captioner, tmp_path / name)
    sessions = Sessions(ModelFolder(tmp_path), threads=1, budget=1_000_000_000)  # each is reckoned with 700 MB
    for name in ("one", "two"):
        sessions.load(Wanted(name, "caption"))
    assert sessions.held() == ["two"]


# -- refusals ------------------------------------------------------------------------------------


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelRefused, match=match):
        BlipModel(folder / "model.safetensors", "mine")


@pytest.mark.parametrize("kept", [0, 4, 8, 200, 0.5, 0.999])
def test_truncated_weights_are_refused(copy: Path, kept: float) -> None:
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: int(kept if kept > 1 or kept == 0 else kept * len(data))])
    refused(copy, "truncated, damaged or no safetensors")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{not json",
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}',
        b'{"a": 3}',
    ],
)
def test_weights_that_lie_about_themselves_are_refused(copy: Path, header: bytes) -> None:
    (copy / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    refused(copy, "truncated, damaged or no safetensors")


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told.update(model_type="bert"), "of the type 'bert'"),
        (lambda told: told.update(architectures=["BlipForQuestionAnswering"]), "BlipForQuestionAnswering"),
        (lambda told: told["text_config"].update(num_hidden_layers=3), "the weights have no .*layer.2"),
        (lambda told: told["text_config"].update(hidden_size=128), "64.*it asks for .*128"),
        (lambda told: told["text_config"].update(num_hidden_layers=10**9), "from 1 to 64 is possible"),
        (lambda told: told["text_config"].update(vocab_size="many"), "its vocab_size is many"),
        (lambda told: told["text_config"].update(bos_token_id=5_000), "outside the vocabulary"),
        (lambda told: told["text_config"].update(num_attention_heads=5), "no multiple"),
        (lambda told: told["text_config"].update(hidden_act="evil.code"), "hidden_act is 'evil.code'"),
        (lambda told: told["vision_config"].update(image_size=40), "makes pictures of 32×32 pixels"),
        (lambda told: told["vision_config"].update(patch_size=5), "no multiple"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], Any], why: str
) -> None:
    changed(copy / "config.json", change)
    refused(copy, why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told.update(size={"height": 8, "width": 8}), "makes pictures of 8×8"),
        (lambda told: told.update(image_mean=[0.5]), "three numbers"),
        (lambda told: told.update(image_std=[0, 0, 0]), "three numbers"),
        (lambda told: told.update(do_normalize=False), "do_normalize is off"),
        (lambda told: told.update(resample=0), "bicubic"),
        (lambda told: told.update(rescale_factor=1), "rescale_factor"),
    ],
)
def test_pictures_that_are_to_be_prepared_otherwise_are_refused(
    copy: Path, change: Callable[[dict[str, Any]], Any], why: str
) -> None:
    told = {"size": {"height": SIDE, "width": SIDE}, "image_mean": list(MEAN), "image_std": list(STD)}
    (copy / "preprocessor_config.json").write_text(json.dumps(told))
    assert read_checkpoint(copy / "model.safetensors", "mine").mean == MEAN
    changed(copy / "preprocessor_config.json", change)
    refused(copy, why)


def test_files_that_are_missing_or_no_json_are_named(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    refused(copy, "tokenizer of mine .*can't be read")
    (copy / "tokenizer.json").unlink()
    refused(copy, "has no tokenizer.json")
    for path in copy.glob("*processor_config.json"):
        path.unlink()
    refused(copy, "preprocessor_config.json is not there")
    (copy / "config.json").write_text("[" * 100_000)
    refused(copy, "no JSON")
    (copy / "config.json").unlink()
    refused(copy, "has no config.json that can be read")


def test_a_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    from tokenizers import Tokenizer, models

    words = {"[UNK]": 0, "[SEP]": 1} | {f"w{number}": number + 2 for number in range(100)}
    Tokenizer(models.WordPiece(words, unk_token="[UNK]")).save(str(copy / "tokenizer.json"))
    refused(copy, "is that of another model: it has 102 tokens")


def test_a_pickle_is_refused_unopened_unless_the_configuration_insists(copy: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    mark = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (mark.touch, ())

    state = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save({**state, "trap": Trap()}, copy / "pytorch_model.bin")
    wary, insistent = ModelFolder(tmp_path), ModelFolder(tmp_path, allow_pickle=True)
    for name in ("mine", str(copy), str(copy / "pytorch_model.bin")):
        with pytest.raises(ModelRefused, match=r"is a pickle.*PIXELMILL_ALLOW_PICKLE"):
            Sessions(wary).load(Wanted(name, "caption"))
    with pytest.raises(ModelRefused, match="hold more than numbers"):
        Sessions(insistent).load(Wanted("mine", "caption"))
    assert not mark.exists(), "not even then is code run"
    torch.save(state, copy / "pytorch_model.bin")
    found = Sessions(insistent, threads=1).load(Wanted("mine", "caption"))
    assert found is not None
    assert caption_of(found.run(item((1, "red", "circle"))))[0] == "a red circle"


def test_nothing_in_a_folder_is_run_and_nobody_is_asked(copy: Path, tmp_path: Path) -> None:
    """Everything by which a checkpoint names code, and an audit hook that sees every connection and lookup."""
    mark = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    code = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    for name in ("config.json", "tokenizer_config.json", "processor_config.json"):
        changed(copy / name, lambda told: told.update(auto_map=code, custom_pipelines={"x": {"impl": "evil.Evil"}}))
    changed(copy / "config.json", lambda told: told.update(quantization_config={"quant_method": "evil"}))
    changed(copy / "config.json", lambda told: told.update(_attn_implementation="evil/kernels"))
    (copy / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/base"}))
    (copy / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 9.0}))
    script = (
        "import sys\n"
        "asked = []\n"
        "sys.addaudithook(lambda name, _: asked.append(name) if name in "
        "('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'urllib.Request') else None)\n"
        "from pathlib import Path\n"
        "from pixelmill import Pipeline\n"
        "from pixelmill.images.image import Image\n"
        "import tiny_captioner\n"
        "image = Image(tiny_captioner.drawn(1, 'red', 'circle', 5))\n"
        "print(Pipeline().caption(model=sys.argv[1]).run(image).data['caption']['caption'], asked)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(copy)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout.strip(), done.stderr) == ("a red circle []", "")
    assert not mark.exists()


def test_no_more_threads_work_than_were_given(captioner: Path) -> None:
    script = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from pixelmill.models.blip import BlipModel, prepare_process\n"
        "prepare_process()\n"
        "import torch, transformers\n"
        "def spent(task):\n"
        "    return sum(map(int, (task / 'stat').read_text().rpartition(')')[2].split()[11:13]))\n"
        "def tasks():\n"
        "    return {task.name: spent(task) for task in Path('/proc/self/task').iterdir()}\n"
        "before, usual = tasks(), torch.get_num_threads()\n"
        "model = BlipModel(Path(sys.argv[1]) / 'model.safetensors', 'tiny', threads=int(sys.argv[2]))\n"
        "items = [np.zeros(model.nature.shape, np.uint8)] * 8\n"
        "for _ in range(4):\n"
        "    model.run_batch(items, {'beams': 5})\n"
        "spent = [ticks - before.get(name, 0) for name, ticks in tasks().items()]\n"
        "print(sum(ticks > 0.05 * sum(spent) for ticks in spent), torch.get_num_threads() - usual)\n"
    )

    def threads(given: int) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", script, str(captioner), str(given)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return [int(word) for word in done.stdout.split()]

    assert threads(1) == [1, 0], "the one that runs, and torch is left as it was"
    worked, left = threads(2)
    assert worked <= 2
    assert left == 0


def test_without_the_extra_it_is_named(captioner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pixelmill\[caption\]'") as caught:
        BlipModel(captioner / "model.safetensors", "tiny")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("pixelmill.models.blip.is_installed", lambda: False)
    missing = Sessions(ModelFolder()).missing(Wanted(str(captioner), "caption"))
    assert missing is not None
    assert missing.command == COMMAND
