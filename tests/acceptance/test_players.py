"""Every kind of result is played by hls.js, by Shaka Player and by Chromium itself.

Each starts, goes from rung to rung while it plays, changes the language, shows the
subtitles and seeks near the end. Pictures are counted by the browser.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from selenium.webdriver import Chrome
from whitenoise import WhiteNoise

from tests.acceptance.browser import Browser, chromium
from tests.clips import ffmpeg
from tests.published import CUES, at_once, chain, programme

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds; the pictures are decoded by the processor
SECONDS = 13

pytestmark = pytest.mark.timeout(300)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@dataclass
class Place:
    """Where results are made and served."""

    folder: Path
    base: str
    asked: list[str]  # paths that players fetched

    def url(self, result: Path) -> str:
        return "/made/" + str(result.relative_to(self.folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, asked = tmp_path_factory.mktemp("players"), []
    files = WhiteNoise(_nothing, autorefresh=True)
    files.add_files(str(folder), prefix="made")
    served = {
        "/player.html": (Path(__file__).with_name("players.html"), "text/html"),
        "/hls.js": (ROOT / "static" / "vendor" / "hls.min.js", "text/javascript"),
        "/shaka.js": (ROOT / "tests" / "vendor" / "shaka-player.js", "text/javascript"),
    }

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        asked.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] not in served:
            return files(environ, start_response)
        path, media_type = served[environ["PATH_INFO"]]
        start_response("200 OK", [("Content-Type", media_type)])
        return [path.read_bytes()]

    with make_server("127.0.0.1", 0, application, _Server, _Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Place(folder, f"http://127.0.0.1:{server.server_port}", asked)
        server.shutdown()


def _nothing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    # Without an icon the browser would complain.
    status = "204 No Content" if environ["PATH_INFO"] == "/favicon.ico" else "404 Not Found"
    start_response(status, [])
    return []


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        driver.set_script_timeout(PATIENCE)
        yield driver


class Player:
    """A result in a player."""

    def __init__(self, driver: Chrome, place: Place, name: str) -> None:
        self.browser = Browser(driver, place.base)
        self.browser.faults()
        self.browser.open(f"/player.html?with={name}")
        place.asked.clear()

    def play(self, url: str) -> str:
        """What went wrong; empty if it plays."""
        script = "player.play(arguments[0]).then(() => arguments[1](''), e => arguments[1](`${e}`))"
        return str(self.browser.driver.execute_async_script(script, url))

    def do(self, call: str) -> Any:
        return self.browser.script(f"return player.{call}")

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.browser.script("return state()")
        return found

    def until(self, true: str, what: str) -> None:
        """``true`` in JavaScript, of the state ``s``."""
        script = f"const s = state(); return Boolean({true})"
        try:
            self.browser.wait(lambda: self.browser.script(script), what, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error} {self.state}") from error

    def goes_on(self) -> None:
        """Time and, where there are any, decoded pictures."""
        was = self.state
        frames = was["frames"] + (5 if was["height"] else 0)
        self.until(f"s.time > {was['time']} + 0.4 && s.frames >= {frames}", "it goes on")

    def switches(self, height: int) -> None:
        self.do(f"rung({height})")
        self.until(f"s.height === {height}", f"the rung of {height} lines is shown")
        self.goes_on()

    def seeks_to_the_end(self, seconds: float) -> None:
        assert self.state["length"] == pytest.approx(seconds, abs=0.15)
        self.browser.script(f"video.currentTime = {seconds - 1.5}")
        self.until(f"s.time > {seconds - 1.2}", "it plays near the end")
        self.until("s.ended", "it ends")

    def fault(self) -> str:
        return "; ".join([*self.state["errors"], *self.browser.faults()])


# What is played ---------------------------------------------------------------


@pytest.fixture(scope="module")
def web_video(place: Place) -> Path:
    clip = programme(place.folder / "web.mkv", "768x432", SECONDS)
    rungs = ("mp4-540", "mp4-360")
    return chain(place.folder / "web-video", clip, "hls-ladder", rungs)[0]


@pytest.fixture(scope="module")
def hls_ladder(place: Place) -> Path:
    clip = programme(place.folder / "hls.mkv", "512x288", SECONDS)
    return at_once(place.folder / "hls-ladder", clip, "hls-ladder")


@pytest.fixture(scope="module")
def dash_ladder(place: Place) -> Path:
    clip = programme(place.folder / "dash.mkv", "512x288", SECONDS)
    return at_once(place.folder / "dash-ladder", clip, "dash-ladder")


@pytest.mark.parametrize(
    ("result", "name", "rungs"),
    [
        ("web_video", "hls", [360, 432]),
        ("web_video", "shaka", [360, 432]),
        ("hls_ladder", "hls", [234, 288]),
        ("hls_ladder", "shaka", [234, 288]),
        ("dash_ladder", "shaka", [234, 288]),
    ],
)
def test_a_ladder_plays(
    request: pytest.FixtureRequest,
    driver: Chrome,
    place: Place,
    result: str,
    name: str,
    rungs: list[int],
) -> None:
    url = place.url(request.getfixturevalue(result))
    player = Player(driver, place, name)
    assert player.play(url) == ""
    assert sorted(player.do("rungs()")) == rungs
    player.do("subtitles()")
    player.goes_on()
    player.until(f"s.cues.join() === {CUES[0]!r}", "the first subtitle is shown")
    for height in (*rungs, rungs[0]):
        player.switches(height)
    assert player.do("heard()") == "de"
    assert sorted(player.do("languages()")) == ["de", "en"]
    player.do("language('en')")
    player.until("player.heard() === 'en'", "English is chosen")
    player.goes_on()
    player.browser.script(f"video.currentTime = {SECONDS - 4}")
    player.until(f"s.cues.join() === {CUES[1]!r}", "the second subtitle is shown")
    player.seeks_to_the_end(SECONDS)
    assert player.fault() == ""


@pytest.mark.parametrize("name", ["hls", "shaka"])
def test_a_sound_without_a_picture_plays(
    driver: Chrome, place: Place, hls_ladder: Path, name: str
) -> None:
    player = Player(driver, place, name)
    assert player.play(place.url(hls_ladder.with_name("sound-1-de.m3u8"))) == ""
    player.goes_on()
    player.seeks_to_the_end(SECONDS)
    assert player.fault() == ""


@pytest.mark.parametrize("profile", ["mp4-360", "audio-aac"])
def test_a_file_plays_by_itself(driver: Chrome, place: Place, profile: str) -> None:
    clip = programme(place.folder / f"{profile}.mkv", "320x180", 4)
    result = at_once(place.folder / profile, clip, profile)
    player = Player(driver, place, "native")
    assert player.play(place.url(result)) == ""
    player.goes_on()
    player.seeks_to_the_end(4)
    assert player.fault() == ""


@pytest.mark.parametrize("name", ["hls", "shaka"])
def test_hdr_plays_or_is_refused_by_its_codec(driver: Chrome, place: Place, name: str) -> None:
    """Chromium decodes HEVC only where the processor of graphics does."""
    result = _hdr(place.folder / f"hdr-{name}")
    (codecs,) = set(re.findall(r'#EXT-X-STREAM-INF:.*CODECS="([^"]+)"', result.read_text()))
    assert codecs.startswith("hvc1.2.")
    player = Player(driver, place, name)
    supported = player.browser.script(
        'return MediaSource.isTypeSupported(`video/mp4; codecs="${arguments[0]}"`)', codecs
    )
    said = player.play(place.url(result))
    if not supported:
        assert {"hls": "manifestIncompatibleCodecsError", "shaka": "4032"}[name] in said
        pytest.skip(f"this Chromium decodes no {codecs}: {said}")
    assert said == ""
    player.goes_on()


def _hdr(folder: Path) -> Path:
    folder.mkdir()
    tags = ("-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc")
    ffmpeg(
        *"-f lavfi -i color=gray:s=320x180:r=25:d=2,format=yuv420p10le".split(),
        "-c:v",
        "ffv1",
        *tags,
        "-color_range",
        "tv",
        str(folder / "hdr.mkv"),
    )
    return at_once(folder / "made", folder / "hdr.mkv", "hls-hdr")
