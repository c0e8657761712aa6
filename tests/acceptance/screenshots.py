"""``make screenshots``: pictures of the pages for the README, of a site with real jobs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.acceptance.browser import Browser, chromium
from tests.acceptance.proc import wait_for
from tests.acceptance.servers import free_port
from tests.acceptance.site import ROOT, Site
from tests.clips import ffmpeg

FOLDER = ROOT / "docs" / "screenshots"
LARGEST = 150_000  # bytes
WIDE: dict[str, Any] = {"width": 1280, "height": 860, "deviceScaleFactor": 1, "mobile": False}
PHONE: dict[str, Any] = {"width": 390, "height": 760, "deviceScaleFactor": 2, "mobile": True}
DARK = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backoffice-") as folder:
        home = Path(folder)
        site = Site(home / "site", f"sqlite:{home}/site/database.sqlite")
        try:
            with chromium(home / "chromium") as driver:
                _take_all(site, Browser(driver, _serve(site)))
        finally:
            site.stop()
            site.close()
    return 0


def _serve(site: Site) -> str:
    """Where the site is, once it has something to show."""
    port = free_port()
    site.set("service", parts="web scheduler worker")
    site.set("web", listen=f"127.0.0.1:{port}", rate="0")
    site.command("notify-desk", "echo 'the desk does not answer' >&2; exit 1", attempts="1")
    site.start("serve")
    for number, seconds in enumerate((4, 5, 6), 1):
        clip = site.media / f"mountains-{number}.mp4"
        _generate(clip, seconds)
        job = site.submit("web-video", clip, title=f"Mountains, part {number}", key=f"mo-{number}")
        assert site.ended(job, 300) == "succeeded", site.log()
    site.ended(site.submit("notify-desk", title="Tell the desk"))
    return f"http://127.0.0.1:{port}"


def _generate(clip: Path, seconds: int) -> None:
    picture = f"mandelbrot=size=1280x720:rate=25:start_scale={3 / seconds},trim=duration={seconds}"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        picture,
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency=330:duration={seconds}",
        *"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac".split(),
        str(clip),
    )


def _take_all(site: Site, browser: Browser) -> None:
    long_clip = site.media / "mountains-4.mp4"
    _generate(long_clip, 20)
    browser.open("/submit?workflow=web-video")
    browser.type("[name='input.source']", str(long_clip))
    browser.type("[name=title]", "Mountains, the whole")
    browser.click("button[value=plan]:not(.hidden)")
    _take(browser, "plan")
    job = site.submit("web-video", long_clip, title="Mountains, the whole")
    wait_for(lambda: site.task(job, "rung").progress > 10, "it encodes", 120)
    for path, name in (("/", "overview"), ("/jobs", "jobs"), (f"/jobs/{job}", "job")):
        browser.open(path)
        _take(browser, name)
    with browser.emulated("Emulation.setEmulatedMedia", DARK):
        browser.open(f"/jobs/{job}")
        _take(browser, "job-on-a-phone", PHONE)
    ((package,),) = site.rows("SELECT MAX(id) FROM file WHERE role = 'hls'")
    browser.open(f"/files/{package}")
    browser.script("document.querySelector('video').muted = true")
    browser.script("document.querySelector('video').play()")
    browser.wait(
        lambda: browser.script("return document.querySelector('video').currentTime > 1"), "it plays"
    )
    _take(browser, "file")
    site.ended(job, 300)


def _take(browser: Browser, name: str, size: dict[str, Any] = WIDE) -> None:
    """A picture of few colours: what a page has."""
    if faults := browser.faults():
        raise SystemExit(f"{name}: {faults}")
    with browser.emulated("Emulation.setDeviceMetricsOverride", size):
        data = browser.driver.get_screenshot_as_png()
    path = FOLDER / f"{name}.png"
    colours = "split[a][b];[a]palettegen=max_colors=96[p];[b][p]paletteuse=dither=none"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "png_pipe", "-i", "-"]
    subprocess.run([*command, "-vf", colours, str(path)], input=data, check=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes; {LARGEST} are the most")
    print(path.relative_to(ROOT), path.stat().st_size)


if __name__ == "__main__":
    sys.exit(main())
