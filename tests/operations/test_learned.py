"""Learned operations, with tiny weights that do something true, and with real ones where the assets are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import loaded, quantized, sessions

from pixelmill import Pipeline
from pixelmill.errors import InvalidParameter, ModelMissing, ModelRefused, NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.encode_frames import encode_frames
from pixelmill.images.frames import Frame
from pixelmill.images.image import Image, Size
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Array, Nature, Wanted
from pixelmill.models.sessions import Sessions
from pixelmill.operations.arguments import build
from pixelmill.operations.operation import Step
from pixelmill.operations.table import operation_named
from pixelmill.pipelines.lacks import lacks_of
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.sources import info_of_pixels
from weights import make_folder

HARD = {"threshold": 0.5}
"""The tiny weights see a little ringing of Pillow's filter, which a hard edge takes away."""


def applied(name: str, given: Image, /, **arguments: Any) -> Step:
    step: Step = loaded(build(operation_named(name), arguments, name, strict=True)).apply(given)
    return step


def scene(width: int = 128, height: int = 96) -> Image:
    """Something light in front of something dark: columns 32 to 95, rows 24 to 71, in color."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[...] = (10, 20, 30)
    pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = (250, 240, 230)
    return Image(pixels)


# -- remove_background ---------------------------------------------------------------------------


def test_a_cut_out_keeps_what_stands_in_front_and_nothing_of_the_rest() -> None:
    image = scene()
    done, data = applied("remove_background", image, **HARD)
    pixels = done.pixels
    assert pixels.shape == (96, 128, 4)
    assert (pixels[48, 64] == (250, 240, 230, 255)).all()
    assert (pixels[4, 4] == 0).all(), "what is cut away is gone, not merely transparent"
    assert data is not None
    assert (data["method"], data["model"]) == ("model", "u2netp")
    assert np.abs(np.array(data["box"]) - (32, 24, 64, 48)).max() <= 3
    assert data["share"] == pytest.approx(0.25, abs=0.03)


def test_it_is_flattened_on_a_color_or_laid_on_a_picture() -> None:
    flat = applied("remove_background", scene(), result="flatten", color="ff0000", **HARD).image.pixels
    assert (flat[4, 4] == (255, 0, 0)).all()
    assert (flat[48, 64] == (250, 240, 230)).all()
    half = applied("remove_background", scene(), result="flatten", color="ff000080", **HARD).image.pixels
    assert (half[4, 4] == (255, 0, 0, 128)).all()
    assert half[48, 64, 3] == 255
    beach = Image(
        np.dstack((np.full((50, 90), 9, np.uint8), np.full((50, 90), 99, np.uint8), np.full((50, 90), 199, np.uint8)))
    )
    laid = applied("remove_background", scene(), result="image", image=beach, **HARD).image.pixels
    assert laid.shape == (96, 128, 3)
    assert (laid[4, 4] == (9, 99, 199)).all()
    assert (laid[48, 64] == (250, 240, 230)).all()
    with pytest.raises(InvalidParameter, match="needs the image"):
        applied("remove_background", scene(), result="image")
    with pytest.raises(NotApplicable, match="not loaded"):
        applied("remove_background", scene(), result="image", image="beach.jpg")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deeper_images_keep_their_depth(dtype: Any) -> None:
    full = 65_535 if dtype == np.uint16 else 1.0
    deep = Image((scene().pixels / 255 * full).astype(dtype))
    for result, channels in (("cutout", 4), ("flatten", 3)):
        done = applied("remove_background", deep, result=result, **HARD).image
        assert (done.pixels.dtype, done.channels) == (dtype, channels)
        assert np.allclose(done.pixels[48, 64, :3], deep.pixels[48, 64], rtol=1e-6)
    mask = applied("remove_background", deep, result="mask", **HARD).image.pixels
    assert mask.dtype == dtype
    assert mask[48, 64] == full
    assert mask[4, 4] == 0


def test_own_transparency_stays() -> None:
    pixels: NDArray[Any] = np.dstack((scene().pixels, np.full((96, 128), 255, np.uint8)))
    pixels[40:50, 60:70, 3] = 100
    done = applied("remove_background", Image(pixels), **HARD).image.pixels
    assert (done[45, 65] == (250, 240, 230, 100)).all()


def test_the_edge_is_made_hard_by_threshold_and_soft_by_feather() -> None:
    ramp = Image(np.tile(np.linspace(0, 255, 128, dtype=np.uint8)[None, :, None], (64, 1, 3)))
    soft = applied("remove_background", ramp, result="mask").image.pixels
    hard = applied("remove_background", ramp, result="mask", threshold=0.5).image.pixels
    assert len(np.unique(soft)) > 20
    assert set(np.unique(hard)) == {0, 255}
    assert abs(int((hard[32] == 0).sum()) - 64) <= 3
    feathered = applied("remove_background", ramp, result="mask", threshold=0.5, feather=4.0).image.pixels
    assert len(np.unique(feathered)) > 8
    assert feathered[32, 4] == 0
    assert feathered[32, 124] == 255


@pytest.mark.parametrize("result", ["cutout", "flatten", "mask"])
def test_it_is_cut_to_the_subject_with_its_margin(result: str) -> None:
    text = f"remove_background:{result},crop=true,margin=5/format:png"
    outcome = Pipeline.parse(text).run(scene(), models=sessions())
    assert outcome.size is not None
    assert np.abs(np.array(outcome.size) - (64 + 10, 48 + 10)).max() <= 6
    assert set(outcome.data) == {"remove_background", "subject"}
    found = outcome.data["subject"]
    assert (found["width"], found["height"]) == outcome.size
    direct = applied("remove_background", scene(), result=result, crop=True, margin=5).image
    assert np.array_equal(direct.pixels, outcome.image.pixels)
    behind = Pipeline.parse(f"trim/{text}").run(scene(), models=sessions())
    assert behind.size is not None
    small = Pipeline.parse(f"remove_background:{result},crop=true/resize:32,32,fit=fill/format:png")
    assert small.run(scene(), models=sessions()).size == Size(32, 32)


def test_frames_of_an_animation_are_cut_to_one_rectangle() -> None:
    frames = []
    for x in (8, 60):
        pixels = np.zeros((64, 128, 3), np.uint8)
        pixels[20:40, x : x + 32] = 255
        frames.append(Frame(Image(pixels), 50.0))
    source = encode_frames(frames, 2, 0, "png")
    outcome = Pipeline.parse("remove_background:crop=true/format:png").run(source, models=sessions())
    assert outcome.frames == 2
    assert outcome.size is not None
    assert abs(outcome.size.width - (60 + 32 - 8)) <= 8
    assert abs(outcome.size.height - 20) <= 6


def test_grabcut_needs_no_weights(tmp_path: Path) -> None:
    nothing = Sessions(ModelFolder(tmp_path / "none"))
    outcome = Pipeline.parse("remove_background:method=grabcut/format:png").run(scene(), models=nothing)
    pixels = outcome.image.pixels
    assert (pixels[48, 64] == (250, 240, 230, 255)).all()
    assert (pixels[4, 4] == 0).all()
    assert outcome.data["remove_background"]["method"] == "grabcut"


def test_an_image_smaller_than_a_model_can_see_is_refused() -> None:
    tiny = Image(np.zeros((31, 200, 3), np.uint8))
    for name in ("remove_background", "classify", "auto_tag"):
        with pytest.raises(NotApplicable, match=r"200×31 pixels.*less than 32 a side"):
            applied(name, tiny)
        with pytest.raises(NotApplicable, match="Step 1"):
            Pipeline.parse(name).run(tiny, models=sessions())
    assert applied("remove_background", tiny, method="grabcut").image.size == Size(200, 31)


def test_matting_finds_colors_and_transparency_of_a_soft_edge() -> None:
    """A soft edge between two known colors: its transparency and its own color are known exactly."""
    alpha = np.clip((np.arange(160) - 60) / 40, 0, 1)
    front, back = np.array((240.0, 230.0, 60.0)), np.array((20.0, 30.0, 90.0))
    pixels = np.tile((alpha[:, None] * front + (1 - alpha[:, None]) * back)[None], (96, 1, 1)).astype(np.uint8)
    done, data = applied("remove_background", Image(pixels), matting=True)
    assert data is not None
    assert data["matting"] is True
    found = done.pixels[48, :, 3] / 255
    assert np.abs(found - alpha).mean() < 0.06
    soft = (found > 0.3) & (found < 0.9)
    assert soft.any()
    plain = applied("remove_background", Image(pixels)).image.pixels[48, soft, :3].astype(float)
    assert np.abs(done.pixels[48, soft, :3] - front).mean() < np.abs(plain - front).mean() / 2


def test_matting_of_a_mask_that_is_sure_of_nothing_falls_back_to_the_mask() -> None:
    noise = Image(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    step = applied("remove_background", noise, matting=True)
    assert step.data is not None
    assert step.data["matting"] is False
    plain = applied("remove_background", noise).image.pixels
    assert np.array_equal(step.image.pixels, plain)


# -- classify and auto_tag -----------------------------------------------------------------------


def one_color(color: tuple[int, int, int]) -> Image:
    return Image(np.full((40, 60, 3), color, np.uint8))


@pytest.mark.parametrize(("color", "first"), [((255, 0, 0), 0), ((0, 255, 0), 1), ((0, 0, 255), 2)])
def test_the_likeliest_class_comes_first(color: tuple[int, int, int], first: int) -> None:
    image = one_color(color)
    step = applied("classify", image, top=2)
    assert step.image is image
    assert step.data is not None
    labels = step.data["labels"]
    assert len(labels) == 2
    assert labels[0]["index"] == first
    assert labels[0]["score"] > labels[1]["score"] > 0
    assert all(item["score"] <= labels[0]["score"] for item in labels)
    tags = applied("auto_tag", image, score=0.5).data
    assert tags is not None
    assert tags["tags"] == [["red thing", "green thing", "blue thing"][first]]
    assert tags["scores"] == [labels[0]["score"]]


def test_only_what_the_model_is_sure_of_is_told() -> None:
    gray = one_color((128, 128, 128))
    assert applied("auto_tag", gray, score=0.9).data == {"tags": [], "scores": [], "model": "mobilenet_v2"}
    step = applied("classify", one_color((255, 0, 0)), score=0.5)
    assert step.data is not None
    assert [item["label"] for item in step.data["labels"]] == ["red thing, scarlet"]


def test_quantized_scores_whose_scale_is_not_known_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.onnx").write_bytes(quantized())
    pipeline = Pipeline.parse("classify:model=bytes")
    with pytest.raises(ModelRefused, match=r'"scale": 0\.1'):
        pipeline.run(one_color((1, 2, 3)), models=Sessions(ModelFolder(tmp_path), threads=1))
    (tmp_path / "bytes.json").write_text('{"scale": 0.1}')
    told = pipeline.run(one_color((1, 2, 3)), models=Sessions(ModelFolder(tmp_path), threads=1)).data["classify"]
    assert [item["label"] for item in told["labels"]] == ["2", "1", "0"]


# -- how models come to operations ---------------------------------------------------------------


class Recorder:
    """A source of models that notes what is asked for."""

    def __init__(self) -> None:
        self.asked: list[Wanted] = []

    def load(self, wanted: Wanted) -> Any:
        self.asked.append(wanted)
        return sessions().load(wanted)

    def missing(self, wanted: Wanted) -> None:
        del wanted


def test_only_operations_that_want_a_model_ask_for_one() -> None:
    source = Recorder()
    Pipeline.parse("grayscale/resize:40/faces:detector=haar").run(scene(), models=source)
    Pipeline.parse("remove_background:method=grabcut").run(scene(), models=source)
    assert source.asked == []
    Pipeline.parse("remove_background/auto_tag/smart_crop:32,32,faces/auto_tag:0.5").run(scene(), models=source)
    assert source.asked == [
        Wanted("u2netp", "segmentation"),
        Wanted("mobilenet_v2", "classification"),
        Wanted("yunet", "faces", optional=True),
    ]


def test_a_path_and_a_model_work_where_a_name_does(tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    shutil.copy(sessions().folder.path / "bright.onnx", file)
    by_name = Pipeline().remove_background().run(scene(), models=sessions()).image.pixels
    by_path = Pipeline().remove_background(model=str(file)).run(scene(), models=Sessions(ModelFolder(tmp_path)))
    assert np.array_equal(by_path.image.pixels, by_name)
    model = sessions().load(Wanted("u2netp", "segmentation"))
    held = Pipeline().remove_background(model=model)
    assert held.holds_pixels
    assert np.array_equal(held.run(scene()).image.pixels, by_name)


def test_missing_weights_are_told_at_once_with_the_command(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "none")
    pipeline = Pipeline.parse("remove_background/faces/auto_tag")
    with pytest.raises(ModelMissing, match="pixelmill models pull u2netp"):
        pipeline.run(scene(), models=Sessions(folder))
    assert [lack.command for lack in lacks_of(pipeline, folder)] == [
        "pixelmill models pull u2netp",
        "pixelmill models pull mobilenet_v2",
    ]
    assert lacks_of(pipeline, sessions().folder) == ()
    assert lacks_of(Pipeline.parse("remove_background:method=grabcut"), folder) == ()


def test_an_estimate_knows_what_a_model_costs() -> None:
    def seconds(text: str) -> float:
        return plan(Pipeline.parse(text), info_of_pixels(scene())).seconds

    assert seconds("remove_background") > 0.1
    assert seconds("remove_background:model=u2net") > seconds("remove_background")
    assert seconds("remove_background:matting=true") > seconds("remove_background")
    assert seconds("auto_tag") < seconds("remove_background")


# -- faces ---------------------------------------------------------------------------------------


class Detector:
    """A model that finds two faces, at places that are a part of whatever picture it gets."""

    nature = Nature("two", "faces", "yunet", (0, 0, 3), "uint8")

    def __init__(self) -> None:
        self.given: list[Array] = []

    def run(self, item: Array) -> tuple[NDArray[np.float32], ...]:
        self.given.append(item)
        height, width = item.shape[:2]
        rows = []
        for x, y, side, score in ((0.1, 0.2, 0.2, 0.95), (0.5, 0.4, 0.4, 0.8), (0.9, 0.9, 0.05, 0.5)):
            box = (x * width, y * height, side * height, side * height)
            points = [(box[0] + part * box[2], box[1] + part * box[3]) for part in (0.3, 0.7, 0.5, 0.35, 0.65)]
            rows.append([*box, *(value for point in points for value in point), score])
        return (np.array(rows, np.float32),)


def test_boxes_points_and_scores_are_those_of_the_whole_picture() -> None:
    detector = Detector()
    image = Image(np.zeros((1_000, 1_500, 3), np.uint8))
    step = applied("faces", image, detector=detector, score=0.6)
    assert step.data is not None
    assert max(detector.given[0].shape) < 600, "searched at the size that the smallest face needs"
    assert step.data["detector"] == "yunet"
    assert step.data["boxes"] == [[750, 400, 400, 400], [150, 200, 200, 200]]
    first = step.data["faces"][0]
    assert first["score"] == pytest.approx(0.8)
    assert first["landmarks"]["nose"] == pytest.approx([950, 600], abs=0.2)
    assert list(first["landmarks"]) == ["right_eye", "left_eye", "nose", "right_mouth", "left_mouth"]
    assert applied("faces", image, detector=detector, score=0.9).data is not None
    assert applied("faces", image, detector=detector, score=0.9).data["count"] == 1  # type: ignore[index] # it is there


def test_smart_crop_follows_whichever_detector_is_there() -> None:
    image = Image(np.zeros((1_000, 1_500, 3), np.uint8))
    step = applied("smart_crop", image, width=500, height=500, attention="faces", detector=Detector())
    assert step.data is not None
    assert (step.data["x"], step.data["y"]) == (700, 350)
    assert (step.data["detector"], step.data["faces"]) == ("yunet", 2)
    classical = applied("smart_crop", image, width=500, height=500, attention="faces", detector="haar").data
    assert classical is not None
    assert classical["detector"] == "haar"


def test_without_weights_auto_is_the_cascade_and_a_named_model_is_missing(photo: bytes, tmp_path: Path) -> None:
    nothing = Sessions(ModelFolder(tmp_path / "none"))
    auto = Pipeline.parse("faces").run(photo, models=nothing).data
    haar = Pipeline.parse("faces:detector=haar").run(photo, models=nothing).data
    assert auto == haar
    assert auto["faces"]["detector"] == "haar"
    with pytest.raises(ModelMissing, match="pixelmill models pull yunet"):
        Pipeline.parse("faces:detector=yunet").run(photo, models=nothing)


# -- with real weights ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    folder = make_folder(assets / "models", tmp_path_factory.mktemp("weights"))
    return Sessions(ModelFolder(folder), threads=1)


def overlap(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    found, wanted = mask >= 128, truth >= 128
    return float((found & wanted).sum() / (found | wanted).sum())


@pytest.mark.parametrize(
    ("picture", "truth"),
    [
        ("lemur.png", "lemur_gt_alpha.png"),
        ("cat.jpg", "cat_gt_mask.png"),
        ("composite_lemur.jpg", "composite_lemur_gt_alpha.png"),
        ("composite_sparrow.jpg", "composite_sparrow_gt_alpha.png"),
        ("composite_dice.jpg", "composite_dice_gt_alpha.png"),
    ],
)
def test_real_weights_cut_out_what_people_would(assets: Path, real: Sessions, picture: str, truth: str) -> None:
    source = assets / "masks" / picture
    mask = Pipeline.parse("remove_background:mask,salient/format:png").run(source, models=real).image.pixels
    wanted = decode((assets / "masks" / truth).read_bytes()).pixels
    wanted = wanted if wanted.ndim == 2 else wanted[..., 0]
    assert overlap(mask, wanted) > 0.85


def test_real_weights_name_what_is_to_be_seen(assets: Path, real: Sessions) -> None:
    def said(name: str) -> list[str]:
        outcome = Pipeline.parse("auto_tag:0.2,model=things").run(assets / "photos" / name, models=real)
        tags: list[str] = outcome.data["auto_tag"]["tags"]
        return tags

    assert said("animal_toucan_1600x1067.jpg") == ["toucan"]
    assert "tiger cat" in said("seed_cat_2040x1536.jpg")


def test_yunet_finds_the_faces_of_a_group_that_the_cascade_misses(assets: Path, real: Sessions) -> None:
    source = assets / "photos" / "people_group_3000x2000.jpg"
    found = Pipeline.parse("faces:min_size=0.01").run(source, models=real).data["faces"]
    assert found["detector"] == "yunet"
    assert found["count"] >= 60
    for face in found["faces"]:
        x, y, width, height = face["box"]
        nose = face["landmarks"]["nose"]
        assert x - width / 4 <= nose[0] <= x + 1.25 * width  # of a face in profile it may stand out
        assert y <= nose[1] <= y + height


@pytest.fixture
def blurred(assets: Path, real: Sessions) -> Callable[[str], float]:
    def change(mode: str) -> float:
        source = assets / "photos" / "portrait_astronaut_512x512.jpg"
        outcome = Pipeline.parse(f"faces:{mode}/format:png").run(source, models=real)
        x, y, width, height = outcome.data["faces"]["boxes"][0]
        before = decode(source.read_bytes()).pixels[y : y + height, x : x + width].astype(float)
        return float(np.abs(outcome.image.pixels[y : y + height, x : x + width] - before).mean())

    return change


def test_a_found_face_is_blurred(blurred: Callable[[str], float]) -> None:
    assert blurred("blur") > 10


@pytest.mark.parametrize("result", ["cutout", "flatten", "mask"])
def test_the_short_way_in_bytes_gives_what_the_long_way_gives(result: str) -> None:
    rng = np.random.default_rng(5)
    image = Image(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    with_alpha: NDArray[Any] = np.dstack((image.pixels, np.full((50, 70), 255, np.uint8)))
    opaque = Image(with_alpha)
    short, told = applied("remove_background", image, result=result, color="336699")
    long, also = applied("remove_background", opaque, result=result, color="336699")
    assert np.abs(short.pixels.astype(int) - long.pixels.astype(int)).max() <= (1 if result == "flatten" else 0)
    assert told is not None
    assert also is not None
    assert {**told, "share": None} == {**also, "share": None}
    assert told["share"] == pytest.approx(also["share"], abs=1e-4)
