from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from backoffice.errors import Invalid
from backoffice.system import files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def clip(root: Path) -> Path:
    path = root / "a b.mp4"
    path.write_bytes(b"x")
    return path


def test_a_plain_path_and_both_forms_of_url_name_the_same_file(root: Path, clip: Path) -> None:
    for name in (str(clip), files.href(clip), f"file://localhost{root}/a%20b.mp4"):
        assert files.resolve(name, [root]) == clip


@pytest.mark.parametrize("name", ["é ü.mp4", "-y.mp4", "http:x.mp4", "100%.mp4", "what?#.mp4"])
def test_awkward_names_survive_the_way_to_a_url_and_back(root: Path, name: str) -> None:
    path = root / name
    path.write_bytes(b"x")
    assert files.resolve(files.href(path), [root]) == path
    assert files.resolve(str(path), [root]) == path


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.mp4", "relative"),
        ("../a.mp4", "relative"),
        ("-y.mp4", "relative"),
        ("", "relative"),
        ("http://example.org/a.mp4", "http:"),
        ("http:x.mp4", "http:"),
        ("concat:/a|/b", "concat:"),
        ("file://other/a.mp4", "host other"),
        ("file:a.mp4", "absolute"),
        ("file://[/a", "URL"),
        ("file:///a.mp4?x", "%3F"),
        ("file:///a.mp4#x", "%23"),
        ("file:///a%00.mp4", "control"),
        ("/a\0.mp4", "control"),
        ("/a\n.mp4", "control"),
        ("file:///a%ff.mp4", "UTF-8"),
        ("/a\udcff.mp4", "UTF-8"),
        ("/etc/passwd", "outside"),
        ("/no/such/file", "outside"),
    ],
)
def test_names_that_are_no_local_file_of_ours_are_refused(root: Path, name: str, word: str) -> None:
    with pytest.raises(Invalid, match=word):
        files.resolve(name, [root])


def test_dots_that_leave_the_root_are_refused(root: Path, clip: Path) -> None:
    secret = root.parent / "secret"
    secret.write_bytes(b"x")
    for name in (f"{root}/../secret", f"file://{root}/%2e%2e/secret", f"{root}x/../secret"):
        with pytest.raises(Invalid, match="outside"):
            files.resolve(name, [root])
    assert files.resolve(f"{root}/../root/a b.mp4", [root]) == clip


def test_a_folder_that_merely_begins_like_a_root_is_outside(root: Path) -> None:
    neighbour = root.parent / "root-private"
    neighbour.mkdir()
    (neighbour / "a").write_bytes(b"x")
    with pytest.raises(Invalid, match="outside"):
        files.resolve(str(neighbour / "a"), [root])


def test_symlinks_are_followed_but_not_out_of_the_root(root: Path, clip: Path) -> None:
    (root.parent / "secret").write_bytes(b"x")
    (root / "in").symlink_to(clip)
    (root / "out").symlink_to("../secret")
    (root / "loop").symlink_to("loop")
    assert files.resolve(str(root / "in"), [root]) == clip
    with pytest.raises(Invalid, match="outside"):
        files.resolve(str(root / "out"), [root])
    with pytest.raises(Invalid, match="cannot be read"):
        files.resolve(str(root / "loop"), [root])


def test_a_root_may_itself_be_a_symlink(root: Path, clip: Path) -> None:
    alias = root.parent / "alias"
    alias.symlink_to(root)
    assert files.resolve(str(alias / "a b.mp4"), [alias]) == clip


def test_only_existing_regular_files_are_taken(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for name, word in (("pipe", "pipe"), ("folder", "folder"), ("gone", "No such file")):
        with pytest.raises(Invalid, match=word):
            files.resolve(str(root / name), [root])


def test_without_roots_nothing_may_be_read(clip: Path) -> None:
    with pytest.raises(Invalid, match="none"):
        files.resolve(str(clip), [])


def test_sha256_reads_all_and_reports_the_fraction(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"ab" * files.CHUNK)
    seen: list[float] = []
    assert files.sha256(path, seen.append) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen == [0.5, 1.0]


def test_the_hash_of_a_tree_depends_on_names_and_content_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, order in ((one, "ab"), (two, "ba")):
        (folder / "sub").mkdir(parents=True)
        for name in order:
            (folder / "sub" / name).write_text(name)
        (folder / "top").write_text("t")
    assert files.tree_sha256(one) == files.tree_sha256(two)
    lines = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
        for name, text in (("sub/a", "a"), ("sub/b", "b"), ("top", "t"))
    )
    assert files.tree_sha256(one) == hashlib.sha256(lines.encode()).hexdigest()
    (two / "top").rename(two / "pot")
    assert files.tree_sha256(one) != files.tree_sha256(two)


def test_a_link_inside_a_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(Invalid, match="link"):
        files.tree_sha256(tmp_path)


def test_the_size_of_a_tree_counts_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "master").write_bytes(b"123")
    (tmp_path / "sub" / "segment").write_bytes(b"12345")
    assert files.size_of(tmp_path / "master") == 3
    assert files.size_of(tmp_path / "master", tree=True) == 8


def test_sync_takes_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"x")
    files.sync(tmp_path / "sub")
    files.sync(tmp_path / "sub" / "a")
