"""Thumbnails over HTTP: size, format by Accept, transparency, caching, and what has none."""

from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest
from live_service import assert_problem
from PIL import Image

CHANGING = "private, no-cache"


def picture(size: tuple[int, int], mode: str = "RGB", kind: str = "png") -> bytes:
    image = Image.radial_gradient("L").resize(size).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(size))
    held = io.BytesIO()
    image.save(held, kind)
    return held.getvalue()


def run(client: httpx.Client, pipeline: str, name: str, body: bytes) -> str:
    """The task of a job that has ended."""
    answer = client.post("/v1/jobs", data={"pipeline": pipeline}, files=[("files", (name, body))])
    return ended(client, answer.json()["id"])


def ended(client: httpx.Client, job: str) -> str:
    with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
        list(stream.iter_lines())
    return str(client.get(f"/v1/jobs/{job}/tasks").json()["items"][0]["id"])


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["vary"] == "Accept"
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize(
    ("accept", "mode", "kind"),
    [
        ("image/avif,image/webp,*/*", "RGBA", "WEBP"),
        ("*/*", "RGB", "WEBP"),
        ("image/png,image/jpeg", "RGBA", "PNG"),
        ("image/png,image/jpeg", "RGB", "JPEG"),
    ],
)
def test_the_format_follows_accept_and_transparency_stays(
    client: httpx.Client, accept: str, mode: str, kind: str
) -> None:
    task = run(client, "flip:vertical/format:png", "a.png", picture((600, 300), mode))
    answer = client.get(f"/v1/tasks/{task}/thumbnail", headers={"accept": accept})
    image = opened(answer)
    assert (image.format, image.size) == (kind, (256, 128))
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    assert ("A" in image.getbands()) == (mode == "RGBA")
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"


def test_it_fits_its_square_and_is_never_enlarged(client: httpx.Client) -> None:
    task = run(client, "invert/format:png", "a.png", picture((60, 90)))
    for size, expected in ((16, (11, 16)), (64, (43, 64)), (1024, (60, 90))):
        assert opened(client.get(f"/v1/tasks/{task}/thumbnail", params={"size": size})).size == expected
    for wrong in ("15", "1025", "x"):
        assert_problem(client.get(f"/v1/tasks/{task}/thumbnail", params={"size": wrong}), 400, "invalid-request")
    assert_problem(client.get(f"/v1/tasks/{task}/thumbnail", params={"of": "both"}), 400, "invalid-request")


def test_who_has_it_is_told_so(client: httpx.Client) -> None:
    task = run(client, "invert/format:png", "a.png", picture((300, 300)))
    path = f"/v1/tasks/{task}/thumbnail"
    first = client.get(path)
    etag = first.headers["etag"]
    again = client.get(path, headers={"if-none-match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = client.get(path, params={"size": 32}, headers={"if-none-match": etag})
    assert other.status_code == 200
    assert client.get(path).content == first.content


def test_an_input_has_one_whatever_became_of_it(client: httpx.Client, source_root: Path) -> None:
    task = run(client, "crop:5000,5000,9,9/format:png", "a.png", picture((200, 100)))
    path = f"/v1/tasks/{task}/thumbnail"
    assert_problem(client.get(path), 409, "illegal-transition")
    assert opened(client.get(path, params={"of": "input", "size": 50})).size == (50, 25)
    (source_root / "b.png").write_bytes(picture((80, 40)))
    job = client.post("/v1/jobs", json={"pipeline": "invert", "sources": [(source_root / "b.png").as_uri()]}).json()
    answer = client.get(f"/v1/tasks/{ended(client, job['id'])}/thumbnail", params={"of": "input"})
    assert opened(answer).size == (80, 40)
    assert answer.headers["cache-control"] == CHANGING
    assert "etag" not in answer.headers


def test_a_file_that_is_no_image_has_none(client: httpx.Client) -> None:
    task = run(client, "invert", "a.png", b"no image at all")
    assert_problem(client.get(f"/v1/tasks/{task}/thumbnail", params={"of": "input"}), 415, "unsupported-format")


def test_a_result_of_data_only_says_so(client: httpx.Client) -> None:
    task = run(client, "info", "a.png", picture((100, 100)))
    assert_problem(client.get(f"/v1/tasks/{task}/thumbnail"), 409, "no-image")
    assert opened(client.get(f"/v1/tasks/{task}/thumbnail", params={"of": "input"})).size == (100, 100)


def test_of_an_animation_the_first_frame(client: httpx.Client) -> None:
    frames = [Image.new("RGB", (100, 50), color) for color in ("red", "lime")]
    held = io.BytesIO()
    frames[0].save(held, "gif", save_all=True, append_images=frames[1:], duration=100)
    task = run(client, "resize:80", "a.gif", held.getvalue())
    image = opened(client.get(f"/v1/tasks/{task}/thumbnail", params={"size": 40}))
    assert (image.size, getattr(image, "n_frames", 1)) == ((40, 20), 1)
    red, green, _ = image.convert("RGB").getpixel((20, 10))  # type: ignore[misc]
    assert red > 200 > green


def test_a_task_of_nobody_has_none(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/tasks/task_none/thumbnail"), 404, "not-found")
