"""DASH packages, held against the schema and the rules of the standard."""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import pytest
from lxml import etree

from tests import manifests
from tests.published import CUES, both_ways


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return both_ways(tmp_path_factory.mktemp("dash"), "dash-ladder")


@pytest.mark.parametrize("way", ["at once", "from parts"])
def test_a_manifest_keeps_the_rules(made: dict[str, Path], way: str) -> None:
    found = manifests.manifest(made[way])
    rungs = found.sets("video")[0].findall("{*}Representation")
    heights = [one.get("height") for one in rungs]
    assert heights == (["288", "234"] if way == "at once" else ["288"])
    assert [one.get("lang") for one in found.sets("audio")] == ["de", "en"]
    assert [[html.unescape(cue) for cue in cues] for cues in found.texts] == [CUES]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('mediaPresentationDuration="PT8.0', 'mediaPresentationDuration="PT7.9'),
        ('maxSegmentDuration="PT6.', 'maxSegmentDuration="PT5.'),
        ('segmentAlignment="true"', 'segmentAlignment="true" bitstreamSwitching="true"'),
        ('codecs="avc1.', 'codecs="avc1.00'),
        ('bandwidth="1', 'bandwidth="9'),
        ('lang="de"', 'lang="no language"'),
        ('value="main"', 'value="principal"'),
        ('d="76800"', 'd="76000"'),
        ('t="546"', 't="0"'),
        ("<Label>Deutsch</Label>", "<Title>Deutsch</Title>"),
        ('maxHeight="288"', 'maxHeight="1080"'),
    ],
)
def test_the_validator_finds_faults(
    tmp_path: Path, made: dict[str, Path], old: str, new: str
) -> None:
    folder = shutil.copytree(made["at once"].parent, tmp_path / "broken")
    path = folder / "manifest.mpd"
    text = path.read_text()
    assert old in text, text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises((AssertionError, etree.DocumentInvalid)):
        manifests.manifest(path)
