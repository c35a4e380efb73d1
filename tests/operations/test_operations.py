"""What holds for every operation, over every kind of image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import loaded

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image
from pixelmill.operations.arguments import build, schema
from pixelmill.operations.operation import Operation, Pointwise
from pixelmill.operations.pixels import full_scale
from pixelmill.operations.reference import EXAMPLES
from pixelmill.operations.table import TABLE, all_operations, operation_named

SHAPES = [(1, 1), (1, 7), (7, 1), (5, 3), (37, 53)]
CHANNELS = [1, 3, 4]
DEPTHS = ["uint8", "uint16", "float32"]
KINDS = [(shape, channels, depth) for shape in SHAPES for channels in CHANNELS for depth in DEPTHS]


def picture(shape: tuple[int, int], channels: int, depth: str, seed: int = 1) -> Image:
    rng = np.random.default_rng(seed)
    full = shape if channels == 1 else (*shape, channels)
    if depth == "float32":
        return Image(rng.random(full, dtype=np.float32))
    return Image(rng.integers(0, np.iinfo(depth).max, full, dtype=depth, endpoint=True))


MARK = picture((9, 12), 4, "uint8", seed=2)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("resize", {"width": 16, "height": 16}),
    ("resize", {"width": 16, "height": 16, "fit": "cover"}),
    ("resize", {"width": 16, "height": 9, "fit": "fill"}),
    ("resize", {"width": 80, "enlarge": True}),
    ("resize", {"height": 3, "interpolation": "nearest"}),
    ("resize", {"height": 3, "interpolation": "linear"}),
    ("resize", {"height": 3, "interpolation": "cubic"}),
    ("resize", {"height": 3, "interpolation": "area"}),
    ("resize", {"width": 2, "height": 30, "fit": "fill", "interpolation": "lanczos"}),
    *[("resize", {"height": 3, "kernel": kernel}) for kernel in ("nearest", "box", "bilinear", "bicubic", "lanczos3")],
    ("resize", {"width": 2, "height": 30, "fit": "fill", "kernel": "bicubic"}),
    ("crop", {"x": 0, "y": 0, "width": 1, "height": 1}),
    ("crop", {"x": 1, "y": 2, "width": 2, "height": 3}),
    ("crop", {"width": 2, "height": 3, "gravity": "bottom-right"}),
    ("crop", {"width": 1, "height": 1, "gravity": "center"}),
    ("smart_crop", {"width": 1, "height": 1}),
    ("smart_crop", {"width": 2, "height": 3, "attention": "edges"}),
    ("smart_crop", {"width": 3, "height": 2, "attention": "faces"}),
    ("pad", {"width": 40, "height": 9}),
    ("pad", {"left": 3, "bottom": 2, "background": "ff880080"}),
    ("trim", {}),
    ("trim", {"tolerance": 1.0, "color": "ff0000"}),
    ("perspective", {"x1": 0, "y1": 0, "x2": 1, "y2": 0, "x3": 1, "y3": 1, "x4": 0, "y4": 1}),
    ("perspective", {"x1": 1, "y1": 0.5, "x2": 3, "y2": 0, "x3": 2.5, "y3": 5, "x4": 0, "y4": 4, "width": 9}),
    *[("rotate", {"angle": angle}) for angle in (0, 90, -90, 180, 270, 360, 30.5)],
    ("rotate", {"angle": 90, "expand": False, "background": "ff8800"}),
    ("rotate", {"angle": -33, "expand": False, "background": "ff880080"}),
    ("rotate", {"angle": 45, "background": "ffffff"}),
    *[("flip", {"direction": direction}) for direction in ("horizontal", "vertical", "both")],
    ("grayscale", {}),
    ("brightness", {"amount": -0.3}),
    ("contrast", {"factor": 1.7}),
    ("gamma", {"gamma": 2.2}),
    ("invert", {}),
    ("saturation", {"factor": 0.4}),
    ("saturation", {"factor": 3.0}),
    ("hue", {"angle": -70.0}),
    ("sepia", {}),
    ("tint", {"color": "20a0ff", "amount": 0.7}),
    ("autocontrast", {}),
    ("autocontrast", {"cutoff": 10.0, "per_channel": True}),
    ("equalize", {}),
    ("clahe", {}),
    ("clahe", {"clip": 0.0, "tiles": 16}),
    *[("white_balance", {"method": method}) for method in ("gray-world", "white-patch")],
    ("posterize", {"levels": 3}),
    ("quantize", {}),
    ("quantize", {"colors": 200, "dither": False}),
    *[("threshold", {"method": method}) for method in ("fixed", "otsu", "adaptive")],
    ("threshold", {"method": "adaptive", "radius": 40, "offset": -0.1, "invert": True}),
    ("colormap", {}),
    ("colormap", {"map": "twilight_shifted"}),
    ("gaussian", {"sigma": 0.5}),
    ("gaussian", {"sigma": 20.0}),
    ("sharpen", {}),
    ("sharpen", {"amount": 3.5}),
    ("box", {"radius": 1}),
    ("box", {"radius": 30}),
    *[("median", {"radius": radius}) for radius in (1, 2, 4)],
    ("bilateral", {}),
    ("bilateral", {"sigma_color": 0.5, "sigma_space": 0.5}),
    ("unsharp", {}),
    ("unsharp", {"sigma": 3.0, "amount": 5.0, "threshold": 0.1}),
    ("emboss", {}),
    ("emboss", {"strength": 4.0, "light": "bottom"}),
    ("denoise", {}),
    ("denoise", {"strength": 30.0, "patch": 1, "search": 3}),
    ("convolve", {"kernel": [0, -1, 0, -1, 5, -1, 0, -1, 0]}),
    ("convolve", {"kernel": list(range(-12, 13)), "normalize": True, "offset": 0.5}),
    ("canny", {}),
    ("canny", {"low": 10, "high": 30, "aperture": 5, "l2": True}),
    *[("sobel", {"direction": direction, "aperture": 5, "scale": 0.1}) for direction in ("both", "x", "y")],
    ("scharr", {}),
    ("scharr", {"direction": "x", "scale": 3.0}),
    *[("laplacian", {"aperture": size}) for size in (1, 3, 7)],
    ("erode", {}),
    ("dilate", {"radius": 4, "shape": "ellipse", "iterations": 3}),
    ("opening", {"shape": "cross"}),
    ("closing", {"radius": 9}),
    ("morph_gradient", {"radius": 2, "shape": "ellipse"}),
    *[("sketch", {"denoise": denoise}) for denoise in ("full", "fast", "none")],
    ("cartoon", {}),
    ("cartoon", {"passes": 1, "lines": 0}),
    ("pixelate", {}),
    ("pixelate", {"block": 4}),
    ("vignette", {}),
    ("vignette", {"strength": 1.0, "radius": 0.0}),
    ("watermark", {"image": MARK}),
    ("watermark", {"image": picture((3, 8), 1, "uint16"), "position": "top", "opacity": 1.0, "scale": 0.9}),
    ("watermark", {"image": picture((8, 3), 3, "float32"), "position": "left", "margin": 0.4}),
    *[("watershed", {"mode": mode}) for mode in ("overlay", "labels", "count")],
    ("watershed", {"mode": "labels", "opening": 0, "foreground": "dark"}),
    *[("components", {"mode": mode}) for mode in ("overlay", "labels", "data")],
    ("components", {"mode": "labels", "connectivity": 4, "min_area": 5, "foreground": "bright"}),
    ("grabcut", {}),
    ("grabcut", {"x": 5, "y": 6, "width": 20, "height": 1000, "iterations": 2}),
    *[("faces", {"mode": mode}) for mode in ("data", "draw", "blur", "crop")],
    *[("features", {"method": method}) for method in ("orb", "sift", "akaze")],
    ("features", {"draw": False, "count": 3}),
    ("match", {"image": picture((40, 64), 3, "uint8")}),
    ("match", {"image": picture((40, 64), 1, "uint16"), "draw": False, "method": "orb"}),
    ("codes", {}),
    ("codes", {"draw": True}),
    ("info", {}),
    ("histogram", {"bins": 7}),
    ("colors", {"k": 3}),
    ("phash", {}),
    ("blurhash", {"x": 9, "y": 1}),
    ("sharpness", {}),
    *[("watermark", {"image": MARK, "tile": True, "blend": blend}) for blend in ("normal", "screen")],
    *[("watermark", {"image": MARK, "blend": blend}) for blend in ("multiply", "overlay")],
    ("watermark", {"image": picture((2, 2), 1, "uint8"), "tile": True, "margin": 0.0, "scale": 0.01}),
    ("text", {"text": "A g"}),
    ("text", {"text": "one two\nthree", "font_size": 9, "position": "top-left", "color": "ff880080", "wrap": False}),
    ("text", {"text": "outline", "font_size": 7, "outline": "000000", "position": "right", "margin": 0.4}),
    ("remove_background", {}),
    ("remove_background", {"result": "flatten", "color": "ff880080", "feather": 2.0, "threshold": 0.5}),
    ("remove_background", {"result": "image", "image": MARK, "method": "grabcut"}),
    ("remove_background", {"result": "mask"}),
    ("classify", {}),
    ("auto_tag", {"score": 0.1}),
    ("caption", {}),
    ("caption", {"prompt": "a photography of", "draw": True}),
    ("border", {}),
    ("border", {"thickness": 2, "color": "ff880080", "inside": True}),
    ("border", {"thickness": 30, "color": "ffffff", "inside": True}),
    ("round_corners", {}),
    ("round_corners", {"radius": 3, "background": "ff8800"}),
]


MADE_ANEW = {"canny", "sketch", "grabcut", "remove_background"}
"""Operations whose result has a depth, or a transparency, of its own; so have label images."""


def operation(name: str, arguments: dict[str, Any]) -> Operation:
    made: Operation = loaded(build(operation_named(name), arguments, name, strict=True))
    return made


def test_every_operation_is_among_the_cases_and_the_examples() -> None:
    assert {name for name, _ in CASES} == set(TABLE) == set(EXAMPLES)


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda value: str(value)[:60])
def test_an_operation_works_on_every_kind_of_image_and_keeps_its_promises(name: str, arguments: dict[str, Any]) -> None:
    subject = operation(name, arguments)
    done = 0
    for shape, channels, depth in KINDS:
        image = picture(shape, channels, depth)
        before = image.pixels.copy()
        try:
            size = subject.size(image.size)
        except NotApplicable:
            with pytest.raises(NotApplicable):
                subject.apply(image)
            continue
        result = subject.apply(image).image
        where = f"{name} {arguments} on {shape} {channels} {depth}"
        assert np.array_equal(image.pixels, before), f"{where}: the input was written to"
        if subject.sized_by_pixels:
            assert max(result.size.width - size.width, result.size.height - size.height) <= 0, where
        else:
            assert result.size == size, f"{where}: size() is wrong"
        if depth == "float32" and result.pixels.dtype == np.float32:
            assert 0.0 <= result.pixels.min() <= result.pixels.max() <= 1.0, f"{where}: out of range"
        if name not in MADE_ANEW and arguments.get("mode") != "labels":
            assert result.pixels.dtype == image.pixels.dtype, where
            assert result.has_alpha == image.has_alpha or name == "round_corners", where
        if name not in {"watermark", "rotate"}:
            assert result.channels == subject.channels(channels), f"{where}: channels() is wrong"
        done += 1
    assert done > 0


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=lambda value: str(value)[:60])
def test_resolved_operations_give_the_same_pixels(name: str, arguments: dict[str, Any]) -> None:
    subject = operation(name, arguments)
    for channels in CHANNELS:
        image = picture((37, 53), channels, "uint8")
        expected = subject.apply(image).image.pixels
        for step in subject.resolve(image.size):
            image = step.apply(image).image
        assert np.array_equal(image.pixels, expected)


def test_a_batch_in_threads_gives_what_each_image_gives_alone() -> None:
    images = [picture((37, 53), channels, depth, 1) for channels in CHANNELS for depth in DEPTHS]
    subjects = [operation(name, arguments) for name, arguments in CASES if name != "crop"]
    alone = [[subject.apply(image).image.pixels for image in images] for subject in subjects]
    with ThreadPoolExecutor(4) as pool:
        for subject, expected in zip(subjects, alone, strict=True):
            batch = list(pool.map(lambda image, subject=subject: subject.apply(image).image.pixels, images))
            for left, right in zip(batch, expected, strict=True):
                assert np.array_equal(left, right)


@pytest.mark.parametrize(
    "subject",
    [
        operation(name, arguments)
        for name, arguments in CASES
        if name in {"cartoon", "vignette"}
        or (
            operation_named(name).family in {"color", "edges", "filters", "morphology"}
            and name not in {"canny", "gaussian", "box"}  # one drops it, two blur it
        )
    ],
    ids=str,
)
def test_color_operations_leave_alpha_alone(subject: Operation) -> None:
    for depth in DEPTHS:
        image = picture((9, 11), 4, depth)
        assert np.array_equal(subject.apply(image).image.pixels[..., 3], image.pixels[..., 3])


@pytest.mark.parametrize(
    "subject",
    [
        operation(name, arguments)
        for name, arguments in CASES
        if operation_named(name).family in {"edges", "filters", "morphology"} and name not in {"gaussian", "sharpen"}
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", CHANNELS)
def test_floats_that_are_no_numbers_come_out_as_samples(subject: Operation, channels: int) -> None:
    pixels = picture((40, 120), channels, "float32").pixels.copy()
    for column, odd in enumerate((np.nan, np.inf, -np.inf, 5.0, -5.0)):
        pixels[20, 2 + column, ...] = odd
        if channels == 4:
            pixels[20, 2 + column, 3] = 0.5
    result = subject.apply(Image(pixels)).image.pixels
    assert np.isfinite(result).all()
    assert 0 <= result.min() <= result.max() <= full_scale(result.dtype)


@pytest.mark.parametrize("name", ["resize", "gaussian", "box", "rotate", "perspective", "pixelate"])
def test_hidden_colors_of_transparent_pixels_do_not_bleed(name: str) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, :20] = (200, 100, 50, 255)
    pixels[:, 20:] = (0, 255, 0, 0)  # green, but transparent
    arguments: dict[str, dict[str, Any]] = {
        "resize": {"width": 13},
        "gaussian": {"sigma": 2.0},
        "box": {"radius": 2},
        "rotate": {"angle": 20.0},
        "perspective": {"x1": 3, "y1": 3, "x2": 37, "y2": 1, "x3": 30, "y3": 33, "x4": 4, "y4": 39},
        "pixelate": {"block": 7},
    }
    result = operation(name, arguments[name]).apply(Image(pixels)).image.pixels
    seen = result[result[..., 3] > 16].astype(int)
    assert np.abs(seen[:, :3] - (200, 100, 50)).max() <= 10


@pytest.mark.parametrize("cls", all_operations(), ids=lambda cls: cls.name)
def test_facts_and_schema_are_fit_for_planner_and_pages(cls: type[Operation]) -> None:
    facts = cls(**EXAMPLES[cls.name][1]).facts()
    assert facts.ns_per_pixel > 0
    assert facts.memory_factor > 0
    assert facts.halo >= 0
    assert cls.summary
    assert not cls.summary.endswith(".")
    assert isinstance(facts.kind == "pointwise", bool)
    if issubclass(cls, Pointwise):
        assert facts.kind == "pointwise"
    page = schema(cls)
    assert page["additionalProperties"] is False
    assert page["description"]
    for name, field in page["properties"].items():
        assert field["description"], name
        assert "title" in field, name
        if field.get("type") in {"integer", "number"} and "enum" not in field:
            assert "minimum" in field or "exclusiveMinimum" in field, name
            assert "maximum" in field, name


def test_the_images_of_a_watermark_can_be_replaced() -> None:
    subject = operation("watermark", {"image": "logo.png"})
    assert subject.images() == ("logo.png",)
    moved = subject.with_images({"logo.png": "sha256:00", "other": "x"})
    assert moved.images() == ("sha256:00",)
    with_pixels = moved.with_images({"sha256:00": MARK})
    assert with_pixels.images() == ()
    base = picture((40, 40), 3, "uint8")
    assert not np.array_equal(with_pixels.apply(base).image.pixels, base.pixels)
    with pytest.raises(NotApplicable, match="not loaded"):
        subject.apply(base)


def test_a_watermark_lies_where_it_was_put_and_as_strong_as_it_was_asked() -> None:
    base = Image(np.full((100, 200, 3), 100, np.uint8))
    white = Image(np.full((10, 20), 255, np.uint8))

    def at(position: str, opacity: float = 1.0) -> NDArray[Any]:
        arguments = {"image": white, "position": position, "opacity": opacity, "scale": 0.25, "margin": 0.1}
        return operation("watermark", arguments).apply(base).image.pixels

    expected = np.full((100, 200, 3), 100, np.uint8)
    expected[65:90, 140:190] = 255
    assert np.array_equal(at("bottom-right"), expected)
    assert np.array_equal(at("top-left")[10:35, 10:60], np.full((25, 50, 3), 255))
    assert int(at("center", 0.5)[50, 100, 0]) == 178  # 100 * 0.5 + 255 * 0.5, rounded to even
    assert np.array_equal(at("center", 0.0), base.pixels)
