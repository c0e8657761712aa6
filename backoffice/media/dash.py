"""DASH manifests (ISO/IEC 23009-1): read, and complete what ffmpeg writes there.

FFmpeg writes segments and the manifest. Its durations are cut to a tenth of a second,
its bandwidths are those that were asked for, its codecs lack the profile of HEVC, and
it says that one init segment serves all rungs. That is put right from what lies in the
folder; labels, roles and the sets of text are added.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from backoffice.media import mp4
from backoffice.media.hls import Playlist, Segment, Sound, Text

_MPD = "{urn:mpeg:dash:schema:mpd:2011}"
_ROLE = "urn:mpeg:dash:role:2011"
_PURPOSE = "urn:tva:metadata:cs:AudioPurposeCS:2007"  # of accessibility; 1: for the blind
_TEXT_RATE = 1000  # bits a second, a guess: text is small


def read(manifest: Path) -> list[Playlist]:
    """The segments of each stream, in the order in which the muxer got them. Raises
    ValueError, XMLSyntaxError, and OSError for files that are not there."""
    return [_playlist(manifest.parent, one) for one in _representations(_parse(manifest))]


def describe(manifest: Path, sounds: Sequence[Sound], texts: Sequence[Text], lead: float) -> None:
    """Correct what the muxer wrote, say which sound is which, and add the subtitles,
    whose files lie beside. What plays first is ``lead`` seconds after the segments' zero."""
    tree = _parse(manifest)
    period = tree.getroot().find(f"{_MPD}Period")
    if period is None:
        raise ValueError(f"{manifest.name} has no period")
    _correct(tree, manifest.parent, lead)
    for element in period.iter(f"{_MPD}AdaptationSet"):
        _drop(element, "bitstreamSwitching")
        if element.get("contentType") == "video":
            _set_role(element, "main")
    sets = [one for one in period.iter(f"{_MPD}AdaptationSet") if one.get("contentType") == "audio"]
    for element, sound in zip(sets, sounds, strict=True):
        _describe_sound(element, sound)
    for number, text in enumerate(texts, len(period)):
        period.append(_text_set(number, text))
    etree.indent(tree)
    tree.write(str(manifest), encoding="utf-8", xml_declaration=True)


def _parse(manifest: Path) -> etree._ElementTree:
    return etree.parse(str(manifest), etree.XMLParser(resolve_entities=False))


def _representations(tree: etree._ElementTree) -> list[etree._Element]:
    found = tree.getroot().iter(f"{_MPD}Representation")
    return sorted(found, key=lambda one: int(one.get("id", "0")))


def _playlist(folder: Path, representation: etree._Element) -> Playlist:
    identity = representation.get("id", "")
    template = representation.find(f"{_MPD}SegmentTemplate")
    if template is None:
        raise ValueError(f"representation {identity} has no segments")
    first, scale = int(template.get("startNumber", "1")), int(template.get("timescale", "1"))
    segments = []
    for number, seconds in enumerate(_lengths(template, scale), first):
        path = folder / _name(template.get("media", ""), identity, number)
        segments.append(Segment(path, seconds, path.stat().st_size))
    if not segments:
        raise ValueError(f"representation {identity} has no segments")
    init = folder / _name(template.get("initialization", ""), identity, first)
    return Playlist(init, segments, math.ceil(max(one.seconds for one in segments)))


def _lengths(template: etree._Element, scale: int) -> list[float]:
    return [
        int(span.get("d", "0")) / scale
        for span in template.iter(f"{_MPD}S")
        for _ in range(int(span.get("r", "0")) + 1)
    ]


def _name(template: str, identity: str, number: int) -> str:
    name = template.replace("$RepresentationID$", identity)
    return re.sub(r"\$Number%0(\d+)d\$", lambda match: f"{number:0{match[1]}d}", name)


def _correct(tree: etree._ElementTree, folder: Path, lead: float) -> None:
    longest, end = 0.0, 0.0
    for representation in _representations(tree):
        playlist = _playlist(folder, representation)
        representation.set("bandwidth", str(playlist.peak))
        representation.set("codecs", mp4.codec(playlist.init.read_bytes()))
        longest = max(longest, *(segment.seconds for segment in playlist.segments))
        end = max(end, _begin_at(representation, lead) + playlist.seconds)
    root = tree.getroot()
    _drop(root, "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation")
    for empty in (root.find(f"{_MPD}ProgramInformation"), root.find(f"{_MPD}ServiceDescription")):
        if empty is not None:
            root.remove(empty)
    etree.cleanup_namespaces(root)
    root.set("mediaPresentationDuration", _duration(end))
    root.set("maxSegmentDuration", _duration(longest))
    # A segment of the peak's size, and the longest there is, has then come whole.
    root.set("minBufferTime", _duration(longest))


def _begin_at(representation: etree._Element, lead: float) -> float:
    """Let the presentation begin ``lead`` seconds after the segments' zero; when the first
    segment begins then, in seconds."""
    template = representation.find(f"{_MPD}SegmentTemplate")
    first = representation.find(f".//{_MPD}S")
    assert template is not None
    assert first is not None
    scale = int(template.get("timescale", "1"))
    offset = round(lead * scale)
    template.set("presentationTimeOffset", str(offset))
    return (int(first.get("t", "0")) - offset) / scale


def _duration(seconds: float) -> str:
    """Never shorter than it is: players stop there."""
    return f"PT{math.ceil(seconds * 1000) / 1000:.3f}S"


def _describe_sound(element: etree._Element, sound: Sound) -> None:
    role = "main" if sound.default else "alternate"
    _set_role(element, role if sound.autoselect else "supplementary")
    if sound.characteristics:
        element.insert(0, _descriptor("Accessibility", _PURPOSE, "1"))
    element.insert(0, _label(sound.title))
    if not sound.language:
        _drop(element, "lang")


def _drop(element: etree._Element, attribute: str) -> None:
    if attribute in element.attrib:
        del element.attrib[attribute]


def _set_role(element: etree._Element, role: str) -> None:
    """The schema wants labels, accessibility and roles in this order, before the rest."""
    for old in element.findall(f"{_MPD}Role"):
        element.remove(old)
    element.insert(0, _descriptor("Role", _ROLE, role))


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
