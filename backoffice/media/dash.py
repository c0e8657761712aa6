"""DASH manifests: what ffmpeg does not write there of sound and subtitles.

FFmpeg writes segments and the manifest. Labels, roles and the sets of text
(ISO/IEC 23009-1) are put in afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from backoffice.media.hls import Sound, Text

_MPD = "{urn:mpeg:dash:schema:mpd:2011}"
_ROLE = "urn:mpeg:dash:role:2011"
_PURPOSE = "urn:tva:metadata:cs:AudioPurposeCS:2007"  # of accessibility; 1: for the blind
_TEXT_RATE = 1000  # bits a second, a guess: text is small


def describe(manifest: Path, sounds: Sequence[Sound], texts: Sequence[Text]) -> None:
    """Say which sound is which, and add the subtitles, whose files lie beside."""
    tree = etree.parse(str(manifest), etree.XMLParser(resolve_entities=False))
    period = tree.getroot().find(f"{_MPD}Period")
    if period is None:
        raise ValueError(f"{manifest.name} has no period")
    sets = [one for one in period.iter(f"{_MPD}AdaptationSet") if one.get("contentType") == "audio"]
    for element, sound in zip(sets, sounds, strict=True):
        _describe_sound(element, sound)
    for number, text in enumerate(texts, len(period)):
        period.append(_text_set(number, text))
    etree.indent(tree)
    tree.write(str(manifest), encoding="utf-8", xml_declaration=True)


def _describe_sound(element: etree._Element, sound: Sound) -> None:
    """The schema wants this order, before all else that ffmpeg writes there."""
    role = "main" if sound.default else "alternate"
    described = [_label(sound.title)]
    if sound.characteristics:
        described.append(_descriptor("Accessibility", _PURPOSE, "1"))
    described.append(_descriptor("Role", _ROLE, role if sound.autoselect else "supplementary"))
    for old in element.findall(f"{_MPD}Role"):
        element.remove(old)
    for place, child in enumerate(described):
        element.insert(place, child)
    if not sound.language and "lang" in element.attrib:
        del element.attrib["lang"]


def _text_set(number: int, text: Text) -> etree._Element:
    element = etree.Element(f"{_MPD}AdaptationSet", id=str(number), contentType="text")
    element.set("mimeType", "text/vtt")
    if text.language:
        element.set("lang", text.language)
    element.append(_label(text.title))
    kind = "forced-subtitle" if text.forced else "caption" if text.characteristics else "subtitle"
    element.append(_descriptor("Role", _ROLE, kind))
    shown = etree.SubElement(element, f"{_MPD}Representation", id=text.name)
    shown.set("bandwidth", str(_TEXT_RATE))
    etree.SubElement(shown, f"{_MPD}BaseURL").text = f"{text.name}.vtt"
    return element


def _label(title: str) -> etree._Element:
    element = etree.Element(f"{_MPD}Label")
    element.text = title
    return element


def _descriptor(name: str, scheme: str, value: str) -> etree._Element:
    return etree.Element(f"{_MPD}{name}", schemeIdUri=scheme, value=value)
