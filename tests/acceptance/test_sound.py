"""Languages, subtitles and sounds that cannot be decoded, from file to publication."""

from __future__ import annotations

import re

from tests.acceptance.site import Site
from tests.clips import Clips
from tests.tones import heard


def test_every_language_is_published(site: Site, clips: Clips) -> None:
    site.start("scheduler", "worker")
    job = site.submit("web-video", site.source(clips["languages.mkv"]))
    assert site.ended(job, 300) == "succeeded", site.message(job)
    (master,) = site.publish.rglob("master.m3u8")
    text = master.read_text()
    named = re.findall(r'TYPE=AUDIO.*LANGUAGE="(\w+)".*URI="([^"]+)"', text)
    assert [language for language, _ in named] == ["de", "fr", "de", "en"]
    found = [heard(master.parent / uri, 300, 900, 1700, 2500)[0] for _, uri in named]
    assert found == [{900}, {1700}, {2500}, {300}]
    texts = re.findall(r'TYPE=SUBTITLES.*LANGUAGE="(\w+)".*URI="([^"]+)"', text)
    assert [language for language, _ in texts] == ["en", "de"]
    for _, uri in texts:
        segment = (master.parent / uri).read_text().splitlines()[-2]
        assert "Hello" in (master.parent / segment).read_text()


def test_a_sound_that_the_check_cannot_decode_is_left_out(site: Site, clips: Clips) -> None:
    site.start("scheduler", "worker")
    job = site.submit("web-video", site.source(clips["noise.mkv"]))
    assert site.ended(job, 300) == "succeeded", site.message(job)
    assert site.tasks(job)["sound"].state == "skipped"
    (master,) = site.publish.rglob("master.m3u8")
    assert "AUDIO" not in master.read_text()
