"""A flag closes the site, or lets it only show."""

from __future__ import annotations

from pathlib import Path

import pytest

from middleware.maintenance import Maintenance
from tests.middleware.wsgi import call, hello


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("mode", "get", "post"),
    [
        ("", 200, 200),
        ("read-only", 200, 503),
        ("read-only: we move", 200, 503),
        ("Read-Only", 200, 503),
        ("maintenance", 503, 503),
        ("maintenance: we move", 503, 503),
        ("we move: back at noon", 503, 503),
    ],
)
def test_each_mode_lets_through_what_it_should(mode: str, get: int, post: int) -> None:
    app = Maintenance(hello, mode=lambda: mode)
    assert [call(app, m).status for m in ("GET", "HEAD", "OPTIONS")] == [get] * 3
    assert [call(app, m).status for m in ("POST", "PUT", "DELETE", "X")] == [post] * 4


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("read-only: we move", "we move"),
        ("maintenance: back: noon", "back: noon"),
        ("we move: back at noon", "we move: back at noon"),
        ("maintenance", "down for maintenance"),
        ("read-only:", "nothing can be changed"),
    ],
)
def test_who_is_refused_is_told_why_and_when_to_come_again(mode: str, reason: str) -> None:
    answer = call(Maintenance(hello, mode=lambda: mode, retry_after=90), "POST")
    assert f"<detail>{reason}" in answer.text.replace("this is ", "")
    assert answer.headers["Retry-After"] == "90"


def test_exempt_paths_go_through() -> None:
    app = Maintenance(hello, mode=lambda: "maintenance")
    assert call(app, path="/health/ready").status == 200
    assert call(app, path="/healthy").status == 503


def test_a_file_closes_and_opens_the_site(tmp_path: Path) -> None:
    flag, clock = tmp_path / "flag", Clock()
    app = Maintenance(hello, mode=flag, clock=clock)
    assert call(app).status == 200
    flag.write_text("back at nöön\n")
    clock.now += 1
    assert "<detail>back at nöön</detail>" in call(app).text
    flag.write_text("read-only: copying\n")
    clock.now += 1
    assert [call(app, method).status for method in ("GET", "POST")] == [200, 503]
    flag.unlink()
    clock.now += 1
    assert call(app, "POST").status == 200


def test_the_file_is_looked_at_once_a_second(tmp_path: Path) -> None:
    flag, clock = tmp_path / "flag", Clock()
    app = Maintenance(hello, mode=str(flag), clock=clock)
    statuses = [call(app).status]
    flag.touch()
    for seconds in (0.0, 0.9, 0.1):
        clock.now += seconds
        statuses.append(call(app).status)
    assert statuses == [200, 200, 200, 503]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"a" * 100_000])
def test_any_file_closes_it(tmp_path: Path, content: bytes) -> None:
    flag = tmp_path / "flag"
    flag.write_bytes(content)
    answer = call(Maintenance(hello, mode=flag))
    assert answer.status == 503
    assert len(answer.body) < 2000


def test_so_does_one_that_cannot_be_read(tmp_path: Path) -> None:
    assert call(Maintenance(hello, mode=tmp_path)).status == 503


def test_no_folder_is_no_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "flag", tmp_path / "file" / "flag"):
        assert call(Maintenance(hello, mode=path)).status == 200
