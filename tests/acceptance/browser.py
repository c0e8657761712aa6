"""A real Chromium without a window, as an operator's, that reports what went wrong in it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from axe_core_python.selenium import Axe
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 20.0  # seconds until a test gives up
_QUIET = tuple(
    (
        "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-sync"
        " --disable-dev-shm-usage --disable-background-networking"
        " --disable-component-update --disable-default-apps --disable-extensions"
        " --mute-audio --hide-scrollbars --autoplay-policy=no-user-gesture-required"
    ).split()
)
_INSIDE = ("data:", "blob:", "chrome:")  # reach no network
_UNDO: dict[str, tuple[str, dict[str, Any]]] = {
    "Emulation.setEmulatedMedia": ("Emulation.setEmulatedMedia", {"features": []}),
    "Emulation.setDeviceMetricsOverride": ("Emulation.clearDeviceMetricsOverride", {}),
}
Found = TypeVar("Found")


@contextmanager
def chromium(profile: Path, *, scripts: bool = True) -> Iterator[Chrome]:
    """``scripts=False``: as for somebody who has switched JavaScript off."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in (*_QUIET, f"--user-data-dir={profile}", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not scripts:
        rule = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", rule)
    driver = Chrome(
        options=options, service=Service(shutil.which("chromedriver") or "chromedriver")
    )
    try:
        yield driver
    finally:
        driver.quit()


class Browser:
    def __init__(self, driver: Chrome, base: str) -> None:
        self.driver = driver
        self.base = base

    # Look

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    @property
    def path(self) -> str:
        """Of the page that is shown, with its query."""
        url = urlsplit(self.driver.current_url)
        return url.path + (f"?{url.query}" if url.query else "")

    def all(self, css: str) -> list[WebElement]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, css))

    def one(self, css: str) -> WebElement:
        """The first one; waits until there is one."""
        return self.wait(lambda: self.all(css), f"{css} is on {self.path}")[0]

    def value(self, css: str) -> str:
        """Of a field."""
        return str(self.one(css).get_attribute("value"))

    def text(self, css: str = "main") -> str:
        return str(self.one(css).text)

    def shows(self, text: str, css: str = "main", seconds: float = PATIENCE) -> None:
        """Wait until it does."""
        self.wait(lambda: text in self.text(css), f"{self.path} shows {text!r}", seconds)

    def wait(self, true: Callable[[], Found], what: str, seconds: float = PATIENCE) -> Found:
        """Poll until ``true()``; parts that are replaced meanwhile are looked for again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := true():
                    return found
            except StaleElementReferenceException:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}\n{self.body()}")
            time.sleep(0.05)

    def body(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def script(self, text: str, *arguments: object) -> Any:
        return self.driver.execute_script(text, *arguments)

    # Do

    def click(self, css: str) -> None:
        """Again if the element was replaced just now."""

        def clicked() -> bool:
            try:
                self.one(css).click()
            except StaleElementReferenceException:
                return False
            return True

        self.wait(clicked, f"{css} can be clicked")

    def link(self, text: str) -> None:
        self.driver.find_element(By.LINK_TEXT, text).click()

    def type(self, css: str, text: str) -> None:
        field = self.one(css)
        field.clear()
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        """Keys, one after the other, wherever the focus is."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    @contextmanager
    def without_reload(self) -> Iterator[None]:
        """Fail if another page, or the same one again, is loaded meanwhile."""
        self.script("window.stays = true")
        yield
        assert self.script("return window.stays === true"), "the page was loaded again"

    @contextmanager
    def emulated(self, command: str, settings: dict[str, Any]) -> Iterator[None]:
        """Such as Emulation.setEmulatedMedia, and back."""
        self.driver.execute_cdp_cmd(command, settings)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd(*_UNDO[command])

    # Hold against the rules

    def faults(self) -> list[str]:
        """What the console complains of, and requests to anybody but the site,
        since the last look."""
        return [*self._complaints(), *self._strangers()]

    def _complaints(self) -> list[str]:
        lines = self._lines("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def _lines(self, log: str) -> list[Any]:
        lines: list[Any] = self.driver.get_log(log)  # type: ignore[no-untyped-call]
        return lines

    def _strangers(self) -> list[str]:
        urls = [one["request"]["url"] for one in self._network("requestWillBeSent")]
        inside = (f"{self.base}/", *_INSIDE)
        return [f"a request leaves: {url}" for url in urls if not url.startswith(inside)]

    def answers(self) -> list[tuple[str, int]]:
        """Paths and statuses of what was answered since the last look."""
        found = [one["response"] for one in self._network("responseReceived")]
        return [(urlsplit(one["url"]).path, int(one["status"])) for one in found]

    def _network(self, event: str) -> list[Any]:
        messages = [json.loads(one["message"])["message"] for one in self._lines("performance")]
        return [one["params"] for one in messages if one["method"] == f"Network.{event}"]

    def barriers(self) -> list[str]:
        """What keeps people out of this page, by axe: what is serious or critical."""
        found = Axe().run(self.driver, options={"resultTypes": ["violations"]})
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        root = "document.documentElement"
        return int(self.script(f"return {root}.scrollWidth - {root}.clientWidth"))
