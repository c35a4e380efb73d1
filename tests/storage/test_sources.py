from __future__ import annotations

import os
from pathlib import Path

import pytest

from pixelmill.errors import InvalidURI, LimitExceeded, ObjectNotFound, SourceRefused
from pixelmill.storage.sources import SourceFile, expand_sources

FILES = [
    "a.jpg",
    "b.png",
    "star*.jpg",
    ".hidden.jpg",
    "year/2024/x.jpg",
    "year/2024/y.JPG",
    "year/2025/x.jpg",
    "year/.cache/x.jpg",
    "with space/ü.jpg",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for number, name in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * number)
    return root


def names(root: Path, pattern: str) -> list[str]:
    return [found.name for found in expand_sources([f"file://{root}/{pattern}"], [root])]


def test_one_file_is_named_by_its_last_part(root: Path) -> None:
    found = list(expand_sources([f"file://{root}/year/2024/x.jpg"], [root]))
    assert found == [SourceFile("x.jpg", root / "year/2024/x.jpg", FILES.index("year/2024/x.jpg"))]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "star*.jpg"]),
        ("?.*", ["a.jpg", "b.png"]),
        ("[ab].*", ["a.jpg", "b.png"]),
        ("[!a].*", ["b.png"]),
        ("star%2A.jpg", ["star*.jpg"]),
        ("s*%2A.jpg", ["star*.jpg"]),
        ("a%2A*", []),
        (".*.jpg", [".hidden.jpg"]),
        ("*", ["a.jpg", "b.png", "star*.jpg"]),
        ("year/*/x.jpg", ["2024/x.jpg", "2025/x.jpg"]),
        ("*/*/x.jpg", ["year/2024/x.jpg", "year/2025/x.jpg"]),
        ("with%20space/*.jpg", ["ü.jpg"]),
        ("with space/%C3%BC*", ["ü.jpg"]),
        ("**/x.jpg", ["year/2024/x.jpg", "year/2025/x.jpg"]),
        ("**/2024/**", ["year/2024/x.jpg", "year/2024/y.JPG"]),
        ("**/**/**/x.jpg", ["year/2024/x.jpg", "year/2025/x.jpg"]),
        ("year/**", ["2024/x.jpg", "2024/y.JPG", "2025/x.jpg"]),
        ("wi*/**", ["with space/ü.jpg"]),
        ("**/*.jpg", ["a.jpg", "star*.jpg", "with space/ü.jpg", "year/2024/x.jpg", "year/2025/x.jpg"]),
        ("*.jpg/**", []),
        ("nothing/*.jpg", []),
        ("*.gif", []),
    ],
)
def test_wild_cards_match_sorted_and_each_file_once(root: Path, pattern: str, expected: list[str]) -> None:
    assert names(root, pattern) == expected


def test_addresses_keep_their_order(root: Path) -> None:
    uris = [f"file://{root}/b.png", f"file://{root}/year/**/x.jpg", f"file://{root}/a.jpg"]
    assert [found.name for found in expand_sources(uris, [root])] == ["b.png", "2024/x.jpg", "2025/x.jpg", "a.jpg"]


def test_without_roots_every_file_is_refused(root: Path) -> None:
    with pytest.raises(SourceRefused, match="--source-root"):
        list(expand_sources([f"file://{root}/a.jpg"], []))


@pytest.mark.parametrize("uri", ["s3://bucket/key", "gs://bucket/key", "az://bucket/key", "key:uploads/x"])
def test_other_schemes_are_refused_for_now(root: Path, uri: str) -> None:
    with pytest.raises(SourceRefused, match="configured"):
        list(expand_sources([uri], [root]))


@pytest.mark.parametrize("uri", ["http://example.org/x", "a.jpg", "file://host/x"])
def test_what_is_no_address_is_invalid(root: Path, uri: str) -> None:
    with pytest.raises(InvalidURI):
        list(expand_sources([uri], [root]))


def test_outside_a_root_what_exists_and_what_does_not_is_refused_alike(root: Path, tmp_path: Path) -> None:
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "secret").write_bytes(b"x")
    messages = set()
    for path in (
        tmp_path / "root-2" / "secret",
        tmp_path / "root-2" / "nothing",
        tmp_path / "gone" / "*",
        Path("/etc/*"),
    ):
        with pytest.raises(SourceRefused, match="outside") as caught:
            list(expand_sources([f"file://{path}"], [root]))
        messages.add(str(caught.value).replace(str(path), "PATH"))
    assert len(messages) == 1


@pytest.mark.parametrize(
    "path", ["../secret", "year/../../secret", "%2e%2e/secret", "*/../../secret", "..%2Fsecret", "./a"]
)
def test_dots_do_not_lead_out(root: Path, path: str) -> None:
    with pytest.raises(InvalidURI):
        list(expand_sources([f"file://{root}/{path}"], [root]))


def test_links_within_the_roots_are_followed_and_links_out_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.jpg").write_bytes(b"x")
    (root / "links").mkdir()
    (root / "links" / "good.jpg").symlink_to(root / "a.jpg")
    (root / "links" / "folder").symlink_to(root / "year")
    (root / "links" / "dangling.jpg").symlink_to(root / "nothing")
    assert names(root, "links/good.jpg") == ["good.jpg"]
    assert names(root, "links/*") == ["good.jpg"]
    assert names(root, "links/*/2024/*") == ["folder/2024/x.jpg", "folder/2024/y.JPG"]
    (root / "links" / "out").symlink_to(tmp_path / "outside")
    assert names(root, "links/**") == ["good.jpg"], "'**' follows no links to folders"
    for pattern in ("links/out/secret.jpg", "links/*/secret.jpg", "links/out/*"):
        with pytest.raises(SourceRefused, match="outside"):
            names(root, pattern)
    (root / "links" / "bad.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    for pattern in ("links/bad.jpg", "links/*.jpg", "links/**"):
        with pytest.raises(SourceRefused, match="outside"):
            names(root, pattern)
    assert names(root, "links/*.png") == []


def test_links_in_a_circle_end(root: Path) -> None:
    (root / "year" / "again").symlink_to(root / "year")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    assert names(root, "year/**/y.JPG") == ["2024/y.JPG"]
    assert "self.jpg" not in names(root, "*.jpg")
    with pytest.raises((ObjectNotFound, SourceRefused)):
        names(root, "self.jpg")


def test_a_root_that_is_a_link_is_a_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    found = list(expand_sources([f"file://{tmp_path}/alias/*.png"], [tmp_path / "alias"]))
    assert [file.path for file in found] == [root / "b.png"]


def test_what_is_no_file_is_said(root: Path) -> None:
    os.mkfifo(root / "fifo.jpg")
    with pytest.raises(ObjectNotFound, match="no file"):
        names(root, "nothing.jpg")
    with pytest.raises(ObjectNotFound, match="no file"):
        names(root, "a.jpg/below.jpg")
    with pytest.raises(InvalidURI, match="is a folder"):
        names(root, "year")
    with pytest.raises(SourceRefused, match="regular"):
        names(root, "fifo.jpg")
    assert names(root, "f*") == []


def test_the_number_of_files_is_bounded_and_the_walk_is_lazy(root: Path) -> None:
    found = expand_sources([f"file://{root}/**"], [root], max_files=3)
    assert [next(found).name for _ in range(3)] == ["a.jpg", "b.png", "star*.jpg"]
    with pytest.raises(LimitExceeded, match="several jobs"):
        next(found)
    with pytest.raises(LimitExceeded, match="closer"):
        list(expand_sources([f"file://{root}/**/nothing"], [root], max_visited=5))
