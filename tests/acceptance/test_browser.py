"""The operator's pages in a real browser, on a real site with real jobs.

After each test the console must be empty, and no request may have left the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from tests.acceptance.browser import Browser, chromium
from tests.acceptance.servers import free_port
from tests.acceptance.site import Site
from tests.clips import Clips

pytestmark = pytest.mark.timeout(300)  # the first one waits for real jobs

PAGES = (
    "/ /jobs /jobs/1 /tasks/1 /files /files/1 /publications /publications/1 /queues"
    " /queues/default /workers /workers/1 /workflows /workflows/web-video /profiles"
    " /profiles/mp4-360 /schedules /events /about /nodes /submit"
    " /submit?workflow=web-video /tokens"
).split()


class Place:
    """The site, where it is served, and the jobs that it has."""

    def __init__(self, site: Site, base: str, published: int, failed: int) -> None:
        self.site = site
        self.base = base
        self.published = published  # a job that made an HLS package
        self.failed = failed


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, clips: Clips, long_clip: Path
) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("browser") / "site"
    site = Site(home, f"sqlite:{home}/database.sqlite")
    try:
        yield _fill(site, clips, long_clip)
    finally:
        site.stop()
        site.close()


def _fill(site: Site, clips: Clips, long_clip: Path) -> Place:
    port = free_port()
    site.set("service", parts="web scheduler worker")
    site.set("web", listen=f"127.0.0.1:{port}", rate="0")
    site.set("worker", slots="2")
    site.command("broken", "echo it broke for good >&2; exit 3", attempts="1")
    site.command("mended", f"[ -e {site.home}/mended ] || exit 4", attempts="1")
    site.command("slow", "n=0; while [ $n -lt 600 ]; do n=$((n+1)); echo line $n; sleep 0.1; done")
    site.start("serve")
    published = site.submit("web-video", site.source(clips["plain.mp4"], "plain.mp4"))
    site.source(long_clip, "long.mp4")
    failed = site.submit("broken", title="Broken for good")
    assert site.ended(published) == "succeeded", site.log()
    assert site.ended(failed) == "failed"
    return Place(site, f"http://127.0.0.1:{port}", published, failed)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(place: Place, driver: Chrome) -> Iterator[Browser]:
    browser = Browser(driver, place.base)
    browser.faults()
    yield browser
    assert browser.faults() == []


# Every page -----------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_page_keeps_nobody_out_and_fits_a_phone(browser: Browser, path: str) -> None:
    browser.open(path)
    assert len(browser.all("h1")) == 1
    assert browser.barriers() == []
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    with browser.emulated("Emulation.setDeviceMetricsOverride", phone):
        assert browser.overflow() <= 0


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/1", "/jobs/2", "/submit?workflow=web-video"])
def test_a_dark_page_is_readable(browser: Browser, path: str) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    with browser.emulated("Emulation.setEmulatedMedia", dark):
        browser.open(path)
        assert _brightness(browser) < 60
        assert browser.barriers() == []


def test_the_theme_is_chosen_and_kept(browser: Browser) -> None:
    browser.open("/files")
    assert _brightness(browser) > 200
    browser.click("#theme")
    assert browser.text("#theme") == "Theme: dark"
    browser.open("/queues")
    assert _brightness(browser) < 60
    browser.click("#theme")
    browser.click("#theme")
    assert browser.text("#theme") == "Theme: auto"


def _brightness(browser: Browser) -> float:
    colour = browser.script("return getComputedStyle(document.body).backgroundColor")
    parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(parts) / 3


# Submit and watch -----------------------------------------------------------


def test_a_job_is_submitted_and_watched_to_its_end(browser: Browser, place: Place) -> None:
    browser.open("/submit")
    browser.click("a[href$='workflow=transcode']")
    browser.click("summary")
    browser.click(f"button[value='{place.site.media}/long.mp4']")
    assert browser.value("[name='input.source']").endswith("/long.mp4")
    browser.type("[name=title]", "Watched")
    browser.click("button[value=plan]:not(.hidden)")
    browser.shows("Nothing was stored")
    assert "libx264" in browser.text()
    browser.click("button[value=submit]")
    browser.wait(lambda: browser.path.startswith("/jobs/"), "the job is shown")
    with browser.without_reload():
        seen = browser.wait(lambda: browser.value("#job progress"), "its progress is shown")
        browser.wait(lambda: browser.value("#job progress") != seen, "its progress moves")
        browser.shows("succeeded", "#job .state", 60)
        browser.wait(lambda: "publish" in browser.text("#publications"), "what it published")


def test_a_wrong_field_says_so_and_keeps_what_was_typed(browser: Browser) -> None:
    browser.open("/submit?workflow=transcode")
    browser.type("[name='input.source']", "/etc/passwd")
    browser.type("[name=title]", "Kept <b>")
    browser.type("[name=priority]", "many")
    browser.click("button.main[value=submit]")
    browser.shows("2 fields need another look")
    assert len(browser.all(".fault")) == 2
    assert browser.value("[name=title]") == "Kept <b>"
    assert browser.barriers() == []
    assert [line for line in browser.faults() if "422" not in line] == []


# Act ------------------------------------------------------------------------


def test_a_running_job_is_cancelled_and_its_log_is_followed(browser: Browser, place: Place) -> None:
    job = place.site.submit("slow", title="Slow")
    place.site.running(job, "run")
    browser.open(f"/tasks/{place.site.task(job, 'run').id}")
    with browser.without_reload():
        browser.shows("line 5\n", "pre.log")
        lines = browser.text("pre.log").count("line")
        browser.wait(lambda: browser.text("pre.log").count("line") > lines + 10, "the log grows")
    browser.open(f"/jobs/{job}")
    browser.click("#action-cancel summary")
    browser.click("#action-cancel button")
    browser.shows("cancelled", "#job .state")
    assert place.site.ended(job) == "cancelled"


def test_many_jobs_are_retried_after_a_preview(browser: Browser, place: Place) -> None:
    jobs = [place.site.submit("mended", title=f"To mend {n}") for n in range(3)]
    for job in jobs:
        assert place.site.ended(job) == "failed"
    browser.open("/jobs?workflow=mended&state=failed")
    for box in browser.all("tbody input[type=checkbox]")[:2]:
        box.click()
    assert browser.text("[data-selected]") == "2"
    browser.click("thead input[type=checkbox]")
    assert browser.text("[data-selected]") == "3"
    (place.site.home / "mended").touch()
    browser.click("button[value=retry]")
    browser.shows("3 jobs")
    assert {place.site.state(job) for job in jobs} == {"failed"}
    browser.click("main form button")
    states = {"succeeded"}
    browser.wait(lambda: {place.site.state(job) for job in jobs} == states, "they succeed")


def test_a_job_is_retried_from_its_page(browser: Browser, place: Place) -> None:
    attempts = len(place.site.attempts(place.failed))
    browser.open(f"/jobs/{place.failed}")
    browser.shows("failed", "#job .state")
    with browser.without_reload():
        browser.click("#action-retry summary")
        assert "What succeeded stays" in browser.text("#action-retry")
    browser.click("#action-retry button")
    browser.wait(lambda: len(place.site.attempts(place.failed)) > attempts, "it runs again")
    place.site.ended(place.failed)
    browser.shows("failed", "#job .state")


# Find -----------------------------------------------------------------------


def test_jobs_are_filtered_by_words_and_fields_in_one_box(browser: Browser) -> None:
    browser.open("/jobs")
    browser.press("/")
    browser.press("state:failed broken", Keys.ENTER)
    browser.wait(lambda: "state=failed" in browser.path, "the address says it")
    assert "q=broken" in browser.path
    assert [row.text for row in browser.all("tbody .state")] == ["✗ failed"]
    assert "state:failed" in browser.value(".filter input")


def test_lists_have_pages(browser: Browser) -> None:
    browser.open("/files?limit=3")
    first = listed(browser)
    browser.link("Older")
    browser.wait(lambda: set(listed(browser)).isdisjoint(first), "others are shown")
    browser.link("Newest")
    browser.wait(lambda: listed(browser) == first, "the first ones are shown")
    browser.open("/events?limit=5")
    newest = browser.all("tbody tr")[0].get_attribute("id")
    browser.link("Older")
    browser.wait(lambda: "before=" in browser.path, "older ones are shown")
    assert not browser.all(f"#{newest}")
    browser.link("Newer")
    browser.wait(lambda: browser.all(f"#{newest}"), "newer ones are shown")


def listed(browser: Browser) -> list[str]:
    """Addresses of what the rows are about; their times change as one looks."""
    rows = browser.all("tbody tr")
    return [str(row.find_element("css selector", "a").get_attribute("href")) for row in rows]


def test_keys_lead_everywhere(browser: Browser) -> None:
    browser.open("/")
    browser.press("g", "j")
    browser.wait(lambda: browser.path == "/jobs", "g j leads to the jobs")
    browser.press("j", "j", "k", "x")
    assert browser.text("[data-selected]") == "1"
    row = browser.one("tbody tr:focus")
    where = row.find_element("css selector", "a").get_attribute("href")
    browser.press(Keys.ENTER)
    browser.wait(lambda: browser.driver.current_url == where, "Enter opens the row's job")
    browser.press("?")
    assert browser.one("#keys").is_displayed()
    assert browser.barriers() == []
    browser.press(Keys.ESCAPE)
    assert not browser.one("#keys").is_displayed()


# Play -----------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False], ids=["by itself", "with hls.js"])
@pytest.mark.parametrize("page", ["file", "job"])
def test_a_package_plays(browser: Browser, place: Place, page: str, native: bool) -> None:
    files = place.site.rows(
        "SELECT id FROM file WHERE role = 'hls' AND job_id = ?", place.published
    )
    hidden = "" if native else "HTMLMediaElement.prototype.canPlayType = () => ''"
    added = browser.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": hidden}
    )
    try:
        browser.open(f"/files/{files[0][0]}" if page == "file" else f"/jobs/{place.published}")
        video = "document.querySelector('video[data-hls]')"
        browser.script(f"{video}.muted = true; {video}.play().catch(() => {{}})")
        browser.wait(lambda: browser.script(f"return {video}.currentTime > 0.5"), "it plays")
        assert browser.script("return Boolean(window.Hls)") is not native
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


# When things are not as they should be --------------------------------------


def test_without_scripts_all_is_there(place: Place, tmp_path: Path) -> None:
    with chromium(tmp_path, scripts=False) as driver:
        browser = Browser(driver, place.base)
        browser.open("/jobs")
        assert "UTC" in browser.text("tbody")
        browser.link(str(place.failed))
        browser.shows("Broken for good")
        browser.open("/submit?workflow=broken")
        browser.type("[name=title]", "By hand")
        browser.click("button.main[value=submit]")
        browser.shows("By hand")
        assert browser.path.startswith("/jobs/")
        job = int(browser.path.rpartition("/")[2])
        place.site.ended(job)
        browser.open(f"/jobs/{job}")
        browser.click("#action-retry summary")
        browser.click("#action-retry button")
        browser.wait(lambda: len(place.site.attempts(job)) > 1, "it runs again")
        place.site.ended(job)
        assert browser.faults() == []


def test_a_problem_is_a_page_with_a_way_on(browser: Browser) -> None:
    browser.open("/jobs/999999")
    browser.shows("there is no job 999999")
    assert browser.barriers() == []
    browser.link("Jobs")
    browser.shows("Jobs", "h1")
    assert [line for line in browser.faults() if "404" not in line] == []


def test_a_lost_connection_is_told_and_forgotten(browser: Browser, place: Place) -> None:
    browser.open("/jobs")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    browser.shows("The connection is lost", "#banner")
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    job = place.site.submit("broken", title="Meanwhile")
    browser.wait(lambda: not browser.one("#banner").is_displayed(), "the banner goes")
    browser.shows("Meanwhile")
    place.site.ended(job)
    assert [line for line in browser.faults() if "DISCONNECTED" not in line] == []


def test_while_nothing_happens_only_that_is_asked(browser: Browser) -> None:
    browser.open("/files")
    asked: list[tuple[str, int]] = []

    def twice_nothing() -> bool:
        asked.extend(browser.answers())
        return [status for path, status in asked if path == "/events.json"].count(304) > 1

    browser.wait(twice_nothing, "nothing is new")
    after = asked[[status for _, status in asked].index(304) :]
    assert {path for path, _ in after} == {"/events.json"}


def test_what_somebody_does_in_a_live_part_stays(browser: Browser, place: Place) -> None:
    browser.open("/jobs")
    browser.press("j", "x")
    row = browser.script("return document.activeElement.querySelector('a').textContent")
    with browser.without_reload():
        job = place.site.submit("broken", title="New on top")
        browser.shows("New on top")
        place.site.ended(job)
        browser.wait(lambda: browser.all("tbody tr:focus"), "the row keeps the focus")
        now = browser.script("return document.activeElement.querySelector('a').textContent")
        assert (row, browser.text("[data-selected]")) == (now, "1")


def test_a_token_is_shown_once(browser: Browser) -> None:
    browser.open("/tokens")
    browser.type("[name=name]", "ci")
    browser.click("form button.main")
    secret = browser.text("#secret")
    assert secret.startswith("bo_")
    browser.click("[data-copy]")
    browser.shows("Copied", "[data-copy]")
    browser.open("/tokens")
    assert secret not in browser.body()
    browser.click("tbody summary")
    browser.click("tbody button.danger")
    browser.shows("revoked", "tbody")
