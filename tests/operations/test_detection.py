"""What is in a picture is found: faces of portraits, the same motif in a copy, codes that were drawn."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill import Pipeline
from pixelmill.errors import NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.images.samples import to_uint16
from pixelmill.operations.arguments import build
from pixelmill.operations.pixels import gray8_of
from pixelmill.operations.table import operation_named

PORTRAITS = {
    "portrait_astronaut_512x512.jpg": (224, 114),
    "portrait_fullbody_970x2204.jpg": (590, 372),
    "portrait_man_glasses_800x533.jpg": (333, 261),
    "portrait_woman_800x533.jpg": (374, 264),
    "seed_barista_1200x800.jpg": (605, 248),
}
"""Pictures of one face, and about where its middle is."""
FACELESS = [
    "animal",
    "flower",
    "landscape",
    "product",
    "seed_c",
    "seed_notes",
    "seed_pier",
    "seed_toucan",
    "space",
    "text",
]


def run(name: str, image: Image, /, **arguments: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    step = build(operation_named(name), arguments, name, strict=True).apply(image)
    data = dict(step.data or {})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    return step.image.pixels, data


def load(path: Path) -> Image:
    return decode(path.read_bytes())


# -- faces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PORTRAITS)
def test_the_face_of_a_portrait_is_found_and_nothing_else(assets: Path, name: str) -> None:
    image = load(assets / "photos" / name)
    data = run("faces", image)[1]
    assert data["count"] == 1
    ((x, y, width, height),) = data["boxes"]
    for middle, at, side in zip(PORTRAITS[name], (x, y), (width, height), strict=True):
        assert abs(at + side / 2 - middle) < side / 5
    assert run("faces", Image(to_uint16(image.pixels)))[1] == data
    assert run("faces", Image(gray8_of(image.pixels)))[1] == data


def test_pictures_without_faces_raise_no_alarm(assets: Path) -> None:
    photos = [path for start in FACELESS for path in (assets / "photos").glob(f"{start}*.jpg")]
    assert len(photos) >= 15
    assert {path.name: Pipeline.parse("faces").run(path).data["faces"]["count"] for path in photos} == dict.fromkeys(
        (path.name for path in photos), 0
    )


def test_small_faces_of_a_group_are_found_where_they_are_asked_for(assets: Path) -> None:
    image = load(assets / "photos" / "seed_group_1500x997.jpg")
    assert run("faces", image)[1]["count"] == 0
    assert run("faces", image, min_size=0.02)[1]["count"] > 15


def test_faces_are_outlined_blurred_and_cut_out(assets: Path) -> None:
    image = load(assets / "photos" / "portrait_astronaut_512x512.jpg")
    ((x, y, width, height),) = run("faces", image)[1]["boxes"]
    face = np.s_[y : y + height, x : x + width]
    drawn, _ = run("faces", image, mode="draw", color="00ff00")
    green = (drawn == (0, 255, 0)).all(axis=2)
    assert green[y, x : x + width].all()
    assert np.array_equal(drawn[~green], image.pixels[~green])

    blurred, _ = run("faces", image, mode="blur")
    sharp, soft = (cv2.Laplacian(gray8_of(pixels)[face], cv2.CV_64F).var() for pixels in (image.pixels, blurred))
    assert soft < sharp / 50
    assert run("faces", Image(blurred))[1]["count"] == 0
    far = np.ones((512, 512), np.bool_)
    far[max(0, y - height) : y + 2 * height, max(0, x - width) : x + 2 * width] = False
    assert np.array_equal(blurred[far], image.pixels[far])

    cut, data = run("faces", image, mode="crop", side=100)
    assert cut.shape == (100, 100, 3)
    assert data["count"] == 1
    ((_, _, across, _),) = run("faces", Image(cv2.resize(cut, (300, 300))))[1]["boxes"]
    assert 150 < across < 270  # two thirds of it


def test_without_a_face_the_middle_is_cut_out() -> None:
    ramp = np.tile(np.arange(120, dtype=np.uint8), (40, 1))
    cut, data = run("faces", Image(ramp), mode="crop", side=40)
    assert data == {"count": 0, "boxes": [], "detector": "haar"}
    assert np.array_equal(cut, ramp[:, 40:80])


def test_threads_find_the_same_faces(assets: Path) -> None:
    image = load(assets / "photos" / "portrait_woman_800x533.jpg")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run("faces", image)[1], range(4)))
    assert found == [found[0]] * 4
    assert found[0]["count"] == 1


# -- features and match --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["orb", "sift", "akaze"])
def test_features_are_opencvs_and_bounded(method: str, photo: bytes) -> None:
    image = decode(photo)
    data = run("features", image, method=method, count=300, draw=False)[1]
    assert 50 < data["count"] <= 300
    assert len(data["keypoints"]) == min(200, data["count"])
    responses = [item["response"] for item in data["keypoints"]]
    assert responses == sorted(responses, reverse=True)
    detectors: dict[str, Any] = {
        "orb": cv2.ORB.create(300),
        "sift": cv2.SIFT.create(300, enable_precise_upscale=True),
        "akaze": cv2.AKAZE.create(),
    }
    expected = {(round(k.pt[0], 2), round(k.pt[1], 2)) for k in detectors[method].detect(gray8_of(image.pixels), None)}
    found = {(item["x"], item["y"]) for item in data["keypoints"]}
    assert len(found & expected) >= 0.97 * len(found)  # but for the last digit
    drawn, _ = run("features", image, method=method, count=300)
    assert np.count_nonzero((drawn != image.pixels).any(axis=2)) > 300
    again = run("features", image, method=method, count=300, draw=False)[1]
    assert again == data


def changed_copy(image: Image, angle: float, scale: float, sigma: float) -> tuple[Image, NDArray[np.float64]]:
    """A rotated, scaled and blurred copy on a canvas that holds it, and the homography that made it."""
    width, height = image.size
    affine = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    cos, sin = np.abs(affine[0, :2])
    size = (round(width * cos + height * sin), round(width * sin + height * cos))
    affine[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    warped = cv2.warpAffine(image.pixels, affine, size, flags=cv2.INTER_AREA)
    return Image(cv2.GaussianBlur(warped, (0, 0), sigma)), np.vstack((affine, (0, 0, 1)))


def corner_error(found: Any, true: NDArray[np.float64], image: Image) -> float:
    """The greatest distance, over the corners, between where two homographies take them."""
    right, bottom = image.size.width - 1.0, image.size.height - 1.0
    corners = np.array([[[0, 0]], [[right, 0]], [[right, bottom]], [[0, bottom]]])
    apart = cv2.perspectiveTransform(corners, np.array(found)) - cv2.perspectiveTransform(corners, true)
    return float(np.linalg.norm(apart, axis=2).max())


@pytest.mark.parametrize(("angle", "scale", "sigma"), [(25, 0.7, 1.0), (-80, 0.8, 1.5), (170, 1.2, 1.0)])
def test_a_changed_copy_gives_the_true_homography(photo: bytes, angle: float, scale: float, sigma: float) -> None:
    image = decode(photo)
    copy, true = changed_copy(image, angle, scale, sigma)
    data = run("match", image, image=copy, draw=False)[1]
    assert corner_error(data["homography"], true, image) < 2
    assert 15 < data["inliers"] <= data["matches"] <= min(data["keypoints"])


LARGE = "people_group_3000x2000.jpg"
"""The one that is looked at reduced; other large ones are taken smaller, for the sake of time."""


@pytest.mark.parametrize(
    "name",
    [
        LARGE,
        "landscape_vineyard_1920x1281.jpg",
        "portrait_astronaut_512x512.jpg",
        "product_watch_700x700.jpg",
        "seed_cat_2040x1536.jpg",
        "space_satellite_3000x1688.jpg",
        "text_scan_hebrew_847x1629.jpg",
    ],
)
def test_changed_copies_of_photographs_give_the_true_homography(assets: Path, name: str) -> None:
    image = load(assets / "photos" / name)
    if name != LARGE and max(image.size) > 1_800:
        image = Image(cv2.resize(image.pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    copy, true = changed_copy(image, 30, 0.7, 1.2)
    data = run("match", image, image=copy, draw=False)[1]
    assert data["homography"] is not None
    assert corner_error(data["homography"], true, image) < 2


def test_a_view_from_the_side_gives_a_true_homography(assets: Path) -> None:
    image = load(assets / "photos" / "animal_toucan_1600x1067.jpg")
    width, height = image.size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    seen = np.array([[60, 40], [width - 200, 90], [width - 120, height - 20], [10, height - 150]], np.float32)
    true = cv2.getPerspectiveTransform(corners, seen)
    copy = Image(cv2.warpPerspective(image.pixels, true, (width, height)))
    data = run("match", image, image=copy, draw=False)[1]
    assert corner_error(data["homography"], true, image) < 2
    assert np.abs(data["homography"][2][:2]).max() > 1e-5


def test_both_images_are_drawn_with_lines_between(photo: bytes) -> None:
    image = decode(photo)
    copy, _ = changed_copy(image, 10, 0.6, 0.8)
    width, height = image.size
    drawn, _ = run("match", image, image=copy, color="00ff00")
    assert drawn.shape == (height, 2 * width, 3)
    lines = (drawn == (0, 255, 0)).all(axis=2)
    assert lines[:, :width].any()
    assert lines[:, width:].any()
    left = ~lines[:, :width]
    assert np.array_equal(drawn[:, :width][left], image.pixels[left])
    deep, _ = run("match", Image(to_uint16(image.pixels)), image=copy)
    assert deep.dtype == np.uint16
    assert deep.shape == drawn.shape


def test_other_pictures_do_not_match(photo: bytes) -> None:
    image = decode(photo)
    noise = Image(np.random.default_rng(4).integers(0, 256, (300, 300, 3), np.uint8))
    assert run("match", image, image=noise, draw=False)[1]["inliers"] < 12
    flat = run("match", image, image=Image(np.zeros((90, 90), np.uint8)), draw=False)[1]
    assert (flat["matches"], flat["inliers"], flat["homography"]) == (0, 0, None)


def test_the_second_image_is_a_parameter_like_any(photo: bytes) -> None:
    pipeline = Pipeline.parse("match:other.jpg,draw=false")
    assert pipeline.images() == ("other.jpg",)
    outcome = pipeline.run(photo, images={"other.jpg": photo})
    assert outcome.bytes is None
    assert np.array(outcome.data["match"]["homography"]) == pytest.approx(np.eye(3), abs=1e-3)
    drawn = Pipeline.parse("match:other.jpg").run(photo, images={"other.jpg": photo})
    assert drawn.size is not None
    assert drawn.size.width == 2 * drawn.source_size.width
    with pytest.raises(NotApplicable, match="not loaded"):
        run("match", decode(photo), image="other.jpg")


# -- codes ---------------------------------------------------------------------------------------


def qr(text: str, scale: int = 6) -> NDArray[np.uint8]:
    modules = cv2.QRCodeEncoder.create().encode(text)
    pixels: NDArray[np.uint8] = np.kron(modules, np.ones((scale, scale), np.uint8))
    return pixels


def ean13(digits: str, bar: int = 3, height: int = 120) -> NDArray[np.uint8]:
    """An EAN-13 barcode (ISO/IEC 15420), black on white, with its quiet zones."""
    odd = ["0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011"]
    right = [code.translate(str.maketrans("01", "10")) for code in odd]
    even = [code[::-1] for code in right]
    parity = ["LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL"]
    first, *others = (int(digit) for digit in digits)
    left = [(odd if side == "L" else even)[digit] for side, digit in zip(parity[first], others[:6], strict=True)]
    bits = "101" + "".join(left) + "01010" + "".join(right[digit] for digit in others[6:]) + "101"
    row = np.array([255 if bit == "0" else 0 for bit in "0" * 12 + bits + "0" * 12], np.uint8)
    return np.pad(np.tile(np.repeat(row, bar), (height, 1)), ((40, 40), (0, 0)), constant_values=255)


def test_codes_are_read_with_their_places() -> None:
    page = np.full((500, 800), 255, np.uint8)
    code, bars = qr("https://example.org/größe?a=1"), ean13("4006381333931")
    page[30 : 30 + code.shape[0], 50 : 50 + code.shape[1]] = code
    page[280 : 280 + bars.shape[0], 300 : 300 + bars.shape[1]] = bars
    for image in (Image(page), Image(np.dstack([to_uint16(page)] * 3)), Image((page / 255).astype(np.float32))):
        pixels, data = run("codes", image)
        assert pixels is image.pixels
        assert data["count"] == 2
        first, second = data["codes"]
        assert (first["type"], first["text"]) == ("qr", "https://example.org/größe?a=1")
        assert (second["type"], second["text"]) == ("ean-13", "4006381333931")
        x, y, width, height = first["box"]
        assert 45 <= x < x + width <= 60 + code.shape[1]
        assert 25 <= y < y + height <= 40 + code.shape[0]
        assert second["box"][1] > 280
    drawn, _ = run("codes", Image(page), draw=True, color="ff0000")
    assert np.count_nonzero((drawn == (255, 0, 0)).all(axis=2)) > 400


def test_a_turned_code_is_read() -> None:
    page = np.full((400, 400), 255, np.uint8)
    code = qr("turned")
    page[100 : 100 + code.shape[0], 100 : 100 + code.shape[1]] = code
    turned = cv2.warpAffine(page, cv2.getRotationMatrix2D((200, 200), 30, 1), (400, 400), borderValue=255)
    (found,) = run("codes", Image(turned))[1]["codes"]
    assert found["text"] == "turned"
    assert len(found["corners"]) == 4


def test_detections_give_data_alone_unless_they_draw(photo: bytes) -> None:
    for text in ("faces", "codes", "features:draw=false", "info/codes"):
        assert Pipeline.parse(text).run(photo).bytes is None
    for text in ("faces:draw", "codes:true", "features", "faces:crop,side=64"):
        assert Pipeline.parse(text).run(photo).bytes is not None
