"""What files are taken for, and what they leave as."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from backoffice.media import media_types

SITE = Path(__file__).parents[2] / "etc/apache2/backoffice.conf"


def test_the_site_of_apache_hands_out_the_same_types() -> None:
    text = SITE.read_text()
    added = re.findall(r"(?m)^ *AddType (\S+) (.+)$", text)
    assert {s: kind for kind, names in added for s in names.split()} == media_types.BY_SUFFIX
    (others,) = re.findall(r'<FilesMatch "\^\(\?!\(\?i\)\.\*\\\.\((.+?)\)\$\)">', text)
    assert set(others.split("|")) == set(media_types.BY_SUFFIX)
    (saved,) = re.findall(r"CONTENT_TYPE\} in \{(.+?)\}", text)
    assert set(re.findall(r"'(.+?)'", saved)) == media_types.SAVED


def test_no_type_that_is_shown_can_be_a_page_or_a_script() -> None:
    for kind in media_types.KNOWN - media_types.SAVED:
        assert not re.search("html|xml|script|ecma|css|json|pdf|svg|flash|wasm", kind), kind


@pytest.mark.parametrize(
    ("facts", "named", "becomes"),
    [
        ({"format": "mov,mp4,m4a,3gp,3g2,mj2", "video": [{}]}, "text/html", "video/mp4"),
        ({"format": "mov,mp4,m4a,3gp,3g2,mj2", "video": [{}]}, "video/quicktime", None),
        ({"format": "mov,mp4,m4a,3gp,3g2,mj2", "video": []}, "video/mp4", None),
        ({"format": "mov,mp4,m4a,3gp,3g2,mj2", "video": []}, "image/jpeg", "audio/mp4"),
        ({"format": "matroska,webm", "video": [{}]}, "video/webm", None),
        ({"format": "ogg", "video": []}, "video/ogg", "audio/ogg"),
        ({"format": "mpegts", "video": [{}]}, "application/octet-stream", "video/mp2t"),
        ({"format": "nut", "video": [{}]}, "application/octet-stream", None),
        ({}, "video/mp4", None),
    ],
)
def test_a_file_is_what_was_probed_unless_its_name_says_so_more_exactly(
    facts: dict[str, Any], named: str, becomes: str | None
) -> None:
    types = media_types.of_facts(facts)
    assert (None if not types or named in types else types[0]) == becomes


def test_all_that_probing_can_find_is_handed_out() -> None:
    found = {kind for lines in media_types._BY_FORMAT.values() for line in lines for kind in line}
    assert found <= media_types.KNOWN
