"""The models folder: names, paths, sums, and checkpoints of one's own."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from tiny_models import LABELS, classifier, salient

from pixelmill.errors import InvalidParameter, ModelMissing, ModelRefused
from pixelmill.models.families import FAMILIES
from pixelmill.models.folder import ModelFolder, digest_of, is_path
from pixelmill.models.model import Wanted
from pixelmill.models.own import MAX_LABELS_BYTES
from pixelmill.models.registry import REGISTRY, entry_named

SALIENT = Wanted("u2netp", "segmentation")


def test_every_row_of_the_registry_is_of_a_known_family_and_names_its_sum() -> None:
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert FAMILIES[entry.family].task == entry.task
        assert entry.memory > entry.size > 0
        assert entry.seconds > 0
        assert entry.licence
        for item in entry.files:
            if entry.task == "caption":
                assert (item.url, item.digest) == ("", "")
                assert item.file.startswith(f"{name}/")
                continue
            algorithm, _, hexed = item.digest.partition(":")
            assert len(hexed) == 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size
            assert item.url.startswith("https://github.com/") or item.url.startswith("https://raw.githubusercontent")
            assert "/" not in item.file


def test_a_model_of_the_registry_is_found_by_name(tiny: ModelFolder) -> None:
    found = tiny.find(SALIENT)
    assert found.path == tiny.path / "u2netp.onnx"
    assert found.family == FAMILIES["u2net"]
    assert tiny.missing(SALIENT) is None
    assert tiny.find(Wanted("mobilenet_v2", "classification")).labels == LABELS


def test_a_missing_model_names_the_command_that_brings_it(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "none")
    with pytest.raises(ModelMissing, match="`pixelmill models pull u2netp`"):
        folder.find(SALIENT)
    missing = folder.missing(SALIENT)
    assert missing is not None
    assert missing.command == "pixelmill models pull u2netp"
    assert not folder.path.exists()


def test_weights_of_another_sum_are_refused_until_they_are_right_again(tiny: ModelFolder) -> None:
    path = tiny.path / "u2netp.onnx"
    right = path.read_bytes()
    tiny.find(SALIENT)
    path.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(ModelRefused, match=r"their sum is another.*--force"):
        tiny.find(SALIENT)
    assert tiny.state(tiny.registry["u2netp"]) == "wrong"
    path.write_bytes(right)
    assert tiny.find(SALIENT).path == path


def test_a_sum_is_remembered_for_the_file_as_it_is(tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []

    def counted(path: Path, algorithm: str) -> str:
        computed.append(path.name)
        return digest_of(path, algorithm)

    monkeypatch.setattr("pixelmill.models.folder.digest_of", counted)
    tiny.find(SALIENT)
    tiny.find(SALIENT)
    again = ModelFolder(tiny.path, registry=tiny.registry)
    again.find(SALIENT)
    assert computed == ["u2netp.onnx"]
    path = tiny.path / "u2netp.onnx"
    os.utime(path, ns=(1, 1))
    again.find(SALIENT)
    assert computed == ["u2netp.onnx"] * 2
    assert again.state(tiny.registry["u2netp"], check=True) == "here"
    assert len(computed) == 3


@pytest.mark.parametrize("name", ["u2nettp", "U2NETP", "", "nothing-like-it"])
def test_an_unknown_name_lists_the_nearest(tiny: ModelFolder, name: str) -> None:
    with pytest.raises(InvalidParameter, match="There is no model"):
        tiny.find(Wanted(name, "segmentation"))
    with pytest.raises(InvalidParameter, match="Did you mean u2netp"):
        entry_named("u2nettp")


def test_a_model_for_something_else_is_refused_with_those_that_fit(tiny: ModelFolder) -> None:
    with pytest.raises(InvalidParameter, match=r"finds faces; here one is needed that tells an object.*u2netp"):
        tiny.find(Wanted("yunet", "segmentation"))


def test_a_checkpoint_in_the_folder_goes_by_its_own_name(tiny: ModelFolder) -> None:
    assert tiny.find(Wanted("bright", "segmentation")).path == tiny.path / "bright.onnx"
    found = tiny.find(Wanted("colors", "classification"))
    assert (found.path, found.labels) == (tiny.path / "colors" / "model.onnx", LABELS)
    assert found.family == FAMILIES["imagenet"]
    assert [path.stem for path in tiny.own()] == ["bright", "colors"]
    assert tiny.own_named("bright") == tiny.path / "bright.onnx"
    assert (tiny.own_named("colors"), tiny.own_named("u2netp")) == (tiny.path / "colors", None)


def test_a_path_works_where_a_name_does_unless_paths_are_not_allowed(tmp_path: Path, tiny: ModelFolder) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(salient())
    assert tiny.find(Wanted(str(file), "segmentation")).path == file
    with pytest.raises(ModelMissing, match="There is no model at"):
        tiny.find(Wanted(str(tmp_path / "other.onnx"), "segmentation"))
    by_name_only = ModelFolder(tiny.path, paths=False, registry=tiny.registry)
    for reference in (str(file), "../mine.onnx", "mine.onnx", "~/x", ".hidden"):
        assert is_path(reference)
        with pytest.raises(InvalidParameter, match="by name only"):
            by_name_only.find(Wanted(reference, "segmentation"))
        with pytest.raises(InvalidParameter, match="by name only"):
            by_name_only.check_name(Wanted(reference, "segmentation"))


def test_what_a_checkpoint_says_of_itself_must_make_sense(tmp_path: Path) -> None:
    folder, wanted = ModelFolder(tmp_path), Wanted(str(tmp_path / "mine"), "classification")
    place = tmp_path / "mine"
    place.mkdir()
    with pytest.raises(ModelRefused, match="no ONNX file"):
        folder.find(wanted)
    (place / "a.onnx").write_bytes(classifier())
    assert folder.find(wanted).family is None
    (place / "model.json").write_text(json.dumps({"family": "u2net"}))
    with pytest.raises(ModelRefused, match="must be one of imagenet"):
        folder.find(wanted)
    (place / "model.json").write_text(json.dumps({"family": "mobilenet-tf", "labels": "../../names.txt", "scale": 2}))
    (place / "names.txt").write_text("one\ntwo\n")
    (tmp_path.parent / "names.txt").write_text("not these\n")
    found = folder.find(wanted)
    assert (found.labels, found.scale) == (("one", "two"), 2.0)
    (place / "model.json").write_text(json.dumps({"scale": "large"}))
    with pytest.raises(ModelRefused, match="no number"):
        folder.find(wanted)
    (place / "model.json").write_text(json.dumps({"labels": "gone.txt"}))
    with pytest.raises(ModelRefused, match=r"labels that are not there: 'gone.txt'"):
        folder.find(wanted)
    for broken in ('{"family": "imagenet" "scale": 1}', "[]", "[" * 50_000, " " * 70_000):
        (place / "model.json").write_text(broken)
        with pytest.raises(ModelRefused, match=r"model\.json can't be understood"):
            folder.find(wanted)
    (place / "model.json").unlink()
    (place / "labels.txt").write_bytes(b"x" * (MAX_LABELS_BYTES + 1))
    with pytest.raises(ModelRefused, match="too long"):
        folder.find(wanted)
    (place / "labels.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ModelRefused, match="can't be read"):
        folder.find(wanted)
    (place / "labels.txt").unlink()
    (place / "b.onnx").write_bytes(classifier())
    with pytest.raises(ModelRefused, match="2 ONNX files"):
        folder.find(wanted)


def test_removing_a_model_leaves_what_another_one_needs(tiny: ModelFolder) -> None:
    entry = tiny.registry["mobilenet_v2"]
    tiny.find(Wanted("mobilenet_v2", "classification"))
    assert tiny.remove(entry) == entry.size
    assert tiny.state(entry) == "missing"
    assert not list(tiny.path.glob(".mobilenet_v2*"))
    assert tiny.remove(entry) == 0
    assert (tiny.path / "bright.onnx").is_file()
