from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from backoffice.media import decoding, mp4

TOLD = """[verbose] Input file #0 (clip.mkv):
[verbose]   Input stream #0:0 (video): 100 packets read (136290 bytes); 100 frames decoded;
[verbose]   Input stream #0:1 (audio): 3 packets read (493 bytes);
[verbose]   Input stream #0:2 (audio): 174 packets read (24229 bytes); 174 frames decoded (178176 samples);
[verbose]   Input stream #1:0 (audio): 9 packets read (9 bytes); 0 frames decoded (0 samples);
"""  # noqa: E501


def test_the_counts_of_ffmpeg_are_read() -> None:
    assert decoding.counts(TOLD) == {
        "0:0": (100, 100, 0),
        "0:1": (3, 0, 0),
        "0:2": (174, 174, 178176),
        "1:0": (9, 0, 0),
    }
    assert decoding.seconds(TOLD, "0:2", 48000) == pytest.approx(3.712)
    assert decoding.seconds(TOLD, "1:0", 48000) == 0
    assert decoding.seconds(TOLD, "0:7", 48000) is None


@pytest.mark.parametrize(
    ("decoded", "length", "lacks"),
    [(10, 10, False), (9.2, 10, False), (8.9, 10, True), (0.2, 0.6, False), (0.0, 0.6, True)],
)
def test_what_lacks_so_much_that_it_is_told(decoded: float, length: float, lacks: bool) -> None:
    assert decoding.lacks(decoded, length) is lacks


@pytest.mark.parametrize(
    ("decoded", "held", "verdict"),
    [(0, 10, decoding.NOTHING), (2, 10, decoding.HOLES), (2, 2, decoding.GAPS)],
)
def test_holes_are_what_packets_hold_and_decoding_does_not_give(
    decoded: float, held: float, verdict: str
) -> None:
    assert decoding.verdict(decoded, held, 10) == verdict


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ({"codec_name": "aac", "id": "0x2"}, ""),
        ({"codec_name": "aac", "id": "0x1"}, "it is encrypted (cbcs)"),
        ({"codec_name": "vp9", "tags": {"ENC_KEY_ID": "x"}}, "it is encrypted (Matroska)"),
        ({"codec_name": "vvc"}, "this ffmpeg cannot decode vvc"),
        ({"codec_tag_string": "ac-4"}, "this ffmpeg does not know its codec (ac-4)"),
        ({"codec_tag_string": "[0][0][0][0]"}, "this ffmpeg does not know its codec"),
    ],
)
def test_why_a_stream_cannot_be_decoded(stream: dict[str, Any], reason: str) -> None:
    assert decoding.why_not(stream, codecs={"aac", "vp9"}, encrypted={1: "cbcs"}) == reason


LISTING = """ D..... = Decoding supported
 -------
 D.VI.S 012v                 Uncompressed 4:2:2 10-bit
 ..V.L. vvc                  H.266 / VVC (Versatile Video Coding)
 DEA.L. aac                  AAC (Advanced Audio Coding) (decoders: aac aac_fixed )
 D.S... dvb_teletext         DVB teletext (decoders: libzvbi_teletextdec )
"""


def test_what_ffmpeg_can_decode_is_read_from_its_listing() -> None:
    assert decoding.decodable(LISTING) == {"012v", "aac", "dvb_teletext"}


# Encrypted tracks of MP4


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def track(number: int, entry: bytes) -> bytes:
    header = box(b"tkhd", bytes(12), struct.pack(">I", number), bytes(68))
    table = box(b"stsd", bytes(8), entry)
    return box(b"trak", header, box(b"mdia", box(b"minf", box(b"stbl", table))))


def test_encrypted_tracks_are_found_by_their_sample_entries(tmp_path: Path) -> None:
    scheme = box(b"sinf", box(b"schm", bytes(4), b"cbcs", bytes(4)))
    moov = box(
        b"moov",
        track(1, box(b"encv", bytes(78), scheme)),
        track(2, box(b"mp4a", bytes(28))),
        track(3, box(b"drms", bytes(28))),
        track(4, box(b"enca", bytes(28))),
    )
    path = tmp_path / "clip.mp4"
    large = struct.pack(">I4sQ", 1, b"mdat", 116) + bytes(100)
    path.write_bytes(box(b"ftyp", b"isom") + large + moov)
    assert mp4.encrypted_tracks(path) == {1: "cbcs", 3: "FairPlay", 4: "CENC"}


@pytest.mark.parametrize(
    "data", [b"", b"\0", box(b"moov", b"odd"), struct.pack(">I4s", 4, b"free"), box(b"mdat")]
)
def test_of_boxes_out_of_order_nothing_is_known(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    assert mp4.encrypted_tracks(path) == {}
