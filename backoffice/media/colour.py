"""Colour: what the values of a picture mean, and the filters that convert them.

Owns range, matrix, transfer and primaries: which ones a source has, also where it
does not say so, and how it is brought to those of a result. It knows nothing of
sizes, encoders or profiles, and starts nothing.

Names are those of ffprobe and of ffmpeg's ``setparams``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

Facts = Mapping[str, Any]

PQ: Final = "smpte2084"
HLG: Final = "arib-std-b67"

# ffprobe's matrices → those of the filter "scale"; it knows no others.
_SCALE_MATRICES: Final = {
    "bt709": "bt709",
    "fcc": "fcc",
    "bt470bg": "bt601",
    "smpte170m": "bt601",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
}
_ZSCALE_MATRICES: Final = frozenset(
    {"bt2020c", "ycgco", "ictcp", "chroma-derived-nc", "chroma-derived-c"}
)
_MATRICES: Final = frozenset(_SCALE_MATRICES) | _ZSCALE_MATRICES
_MATRIX_OF_PRIMARIES: Final = {
    "bt709": "bt709",
    "bt2020": "bt2020nc",
    "smpte170m": "smpte170m",
    "bt470bg": "bt470bg",
}
# Primaries whose colours look wrong if they are taken for those of BT.709. Those of
# the standard definitions of Europe, America and Japan are so near that their values
# are taken as they are, as receivers do.
_WIDE: Final = frozenset({"bt2020", "smpte428", "smpte431", "smpte432", "film", "bt470m"})
# Transfers whose values mean other light than those of BT.709. Of all others, sRGB
# too, the values go to the screen as they are.
_TRANSFERS: Final = frozenset({PQ, HLG, "linear", "log100", "log316"})

_RGB: Final = re.compile(r"(0|a|x2)?(rgb|bgr|gbr)|pal8|mono|xyz|bayer")
_ALPHA: Final = re.compile(r"yuva|ya\d|gbrap|rgba|bgra|argb|abgr|ayuv|vuya")

# ITU-R BT.2408: the white of graphics and of SDR lies at 203 cd/m² in HDR.
_WHITE: Final = 203
_PEAK: Final = 10_000 / _WHITE  # the brightest that PQ can say, so that nothing is cut off
# Of white, up to where light is left as it is. White itself becomes 0.95 of the
# light of SDR's white, and all that is brighter goes into the rest.
_KNEE: Final = 0.9


@dataclass(frozen=True)
class Colour:
    """What the numbers of a picture mean."""

    range: str  # tv: limited, pc: full
    matrix: str
    transfer: str
    primaries: str

    @property
    def video_range(self) -> str:
        """SDR, PQ or HLG, as HLS calls it."""
        return {PQ: "PQ", HLG: "HLG"}.get(self.transfer, "SDR")

    @property
    def _light(self) -> tuple[str, str]:
        """Transfer and primaries; equal where values can be taken over."""
        return (
            self.transfer if self.transfer in _TRANSFERS else "bt709",
            self.primaries if self.primaries in _WIDE else "bt709",
        )


BT709: Final = Colour("tv", "bt709", "bt709", "bt709")
# JFIF has no tags: readers take every JPEG for BT.601 of full range.
JPEG: Final = Colour("pc", "bt470bg", "bt709", "bt709")


def of(picture: Facts) -> Colour:
    """The colour of a picture, as it says, or as is usual for its size and kind."""
    said = picture.get("colour", {})
    pixels = str(picture.get("pixel_format", ""))
    transfer = said.get("transfer") or _transfer_of_dolby_vision(picture)
    hdr = transfer in (PQ, HLG)
    matrix = "gbr" if _RGB.match(pixels) else _matrix(picture, hdr)
    wide = hdr or matrix.startswith("bt2020")
    full = matrix == "gbr" or pixels.startswith("yuvj")
    return Colour(
        range="pc" if full else said.get("range") or "tv",
        matrix=matrix,
        transfer=transfer or "bt709",
        primaries=said.get("primaries") or ("bt2020" if wide else "bt709"),
    )


def _matrix(picture: Facts, hdr: bool) -> str:
    said = picture.get("colour", {})
    if said.get("matrix") in _MATRICES:
        return str(said["matrix"])
    if guess := _MATRIX_OF_PRIMARIES.get(said.get("primaries", "")):
        return guess
    if hdr:
        return "bt2020nc"
    sides = sorted((int(picture["width"]), int(picture["height"])))
    return "bt709" if sides[1] >= 1280 or sides[0] > 576 else "smpte170m"


def _transfer_of_dolby_vision(picture: Facts) -> str:
    """Of the base of a Dolby Vision picture that does not say so itself."""
    return {1: PQ, 4: HLG, 6: PQ}.get(picture.get("dolby_vision", {}).get("compatible", -1), "")


def unusable(picture: Facts) -> str:
    """Why nothing can be made of the picture, as the end of a sentence about its
    source; empty if it can. What decoders give of Dolby Vision without a base that
    others can show has other colours (profile 5)."""
    for at, before, after in picture.get("colour_changes", ()):
        # What decoders say of SDR after HLG is HLG still, by a message that they keep.
        if {before["light"], after["light"]} != {"SDR"}:
            names = [f"{one['light']} ({one['matrix']})" for one in (before, after)]
            return (
                f"changes from {names[0]} to {names[1]} at {at:.1f} s, which cannot be followed;"
                " cut it there, and submit the parts"
            )
    dolby_vision = picture.get("dolby_vision", {})
    if dolby_vision.get("compatible", -1) != 0:
        return ""
    return (
        f"is Dolby Vision of profile {dolby_vision['profile']}, which nothing but players of"
        " Dolby Vision can show; export it as HDR10, HLG or SDR"
    )


def changes(
    picture: Facts, seen: Sequence[tuple[float, Facts]]
) -> list[tuple[float, dict[str, str], dict[str, str]]]:
    """Where the colour becomes another: the moment, what it was and what it is, as names
    of ``light`` (SDR, PQ or HLG), matrix and range."""
    shown = [(at, _named(of({**picture, **frame}))) for at, frame in seen]
    pairs = pairwise(shown)
    return [(round(at, 3), old, new) for (_, old), (at, new) in pairs if old != new]


def _named(colour: Colour) -> dict[str, str]:
    light = colour.video_range
    if light == "SDR" and colour.primaries in _WIDE:
        light = f"SDR of {colour.primaries}"
    return {
        "light": light,
        "matrix": _MATRIX_NAMES.get(colour.matrix, colour.matrix),
        "range": colour.range,
    }


# Two names for the same numbers.
_MATRIX_NAMES: Final = {
    "smpte170m": "BT.601",
    "bt470bg": "BT.601",
    "bt709": "BT.709",
    "bt2020nc": "BT.2020",
}


def changed(picture: Facts) -> list[str]:
    """What people are told of such changes, as ends of sentences about the source."""
    found = picture.get("colour_changes", ())
    if not found:
        return []
    at, before, after = found[0]
    more = f", and {len(found) - 1} times more" if len(found) > 1 else ""
    names = [f"{one['matrix']} ({_RANGES[one['range']]} range)" for one in (before, after)]
    return [
        f"changes its colour from {names[0]} to {names[1]} at {at:.1f} s{more}, which is not"
        " followed: it is shown as the first"
    ]


_RANGES: Final = {"tv": "limited", "pc": "full"}


def kept(picture: Facts) -> Colour:
    """The colour of a result that stays as wide as its source; of others BT.709."""
    source = of(picture)
    if source._light == BT709._light:
        return BT709
    return replace(source, range="tv", matrix=_matrix(picture, hdr=True))


def rendered(picture: Facts, made: Colour) -> str:
    """What was done to the light of the picture, for people; empty if nothing."""
    source = of(picture)
    if source.video_range != made.video_range:
        return f"{source.video_range} was tone-mapped to {made.video_range}"
    return ""


def has_alpha(picture: Facts) -> bool:
    """Whether it can be transparent."""
    return bool(_ALPHA.match(str(picture.get("pixel_format", ""))))


# Filters


def on_black(picture: Facts) -> list[str]:
    """Filters that show what is transparent over black, as RGB; none if nothing is."""
    if not has_alpha(picture):
        return []
    source = of(picture)
    eight = re.search(r"(9|1\d|48|64|32)(le|be)$", str(picture["pixel_format"])) is None
    options = [f"in_range={source.range}", *_in_matrix(source), "flags=bicubic"]
    pixels = "gbrap" if eight else "gbrap16le"
    return [f"scale={':'.join(options)}", f"format={pixels}", "premultiply=inplace=1"]


def meant(picture: Facts) -> Colour:
    """The colour of a picture after :func:`on_black`."""
    source = of(picture)
    return replace(source, range="pc", matrix="gbr") if has_alpha(picture) else source


def scale_options(source: Colour, made: Colour) -> list[str]:
    """Of the filter ``scale``: it converts RGB, and range where that is all there is to
    do. It is slow and coarse from one matrix to another: see :func:`converting`."""
    if _needs_zscale(source, made):
        return [f"in_range={source.range}", f"out_range={source.range}", "flags=bicubic"]
    options = [f"in_range={source.range}", f"out_range={made.range}"]
    if source.matrix == made.matrix:
        return [*options, "flags=bicubic"]
    return [*options, f"out_color_matrix={_SCALE_MATRICES[made.matrix]}", "flags=bicubic"]


def _in_matrix(source: Colour) -> list[str]:
    known = _SCALE_MATRICES.get(source.matrix)
    return [f"in_color_matrix={known}"] if known else []


def _needs_zscale(source: Colour, made: Colour) -> bool:
    other = source.matrix not in ("gbr", made.matrix)
    return other or source._light != made._light


def converting(source: Colour, made: Colour, pixel_format: str) -> list[str]:
    """The filters after ``scale``, up to tagged pixels of that format."""
    tags = (
        f"setparams=range={made.range}:colorspace={made.matrix}"
        f":color_primaries={made.primaries}:color_trc={made.transfer}"
    )
    light = _light(source, made) if _needs_zscale(source, made) else []
    return [*light, f"format={pixel_format}", tags]


def _light(source: Colour, made: Colour) -> list[str]:
    planes = ["format=gbrp16le"] if source.matrix == "gbr" else []
    before = _zscale_input(source)
    after = f"m={made.matrix}:p=bt709:t=bt709:r={made.range}"
    if source.video_range == "SDR":
        return [*planes, f"zscale={before}:{after}"]
    return [
        *planes,
        f"zscale={before}:m=gbr:p=bt709:t=linear:r=full:npl={_WHITE}",
        "format=gbrpf32le",
        f"tonemap=mobius:param={_KNEE:g}:peak={_PEAK:.2f}:desat=0",
        f"zscale=min=gbr:rin=full:pin=bt709:tin=linear:{after}",
    ]


def _zscale_input(source: Colour) -> str:
    transfer, primaries = source._light
    # Its name for it is misspelt in ffmpeg 5.1, hence the number of ITU-T H.273.
    matrix = "7" if source.matrix == "smpte240m" else source.matrix
    return f"min={matrix}:rin={source.range}:pin={primaries}:tin={transfer}"


# Metadata of HDR: SMPTE ST 2086 and CTA-861.3


def light_metadata(side_data: Sequence[Facts]) -> dict[str, str]:
    """What ffprobe's side data say of the display that the picture was made for
    (``mastering``, in the form that x265 takes: 0.00002 of a coordinate,
    0.0001 cd/m²) and of its brightest pixel and frame (``content_light``, cd/m²)."""
    found = {}
    for data in side_data:
        kind = data.get("side_data_type", "")
        if kind == "Mastering display metadata" and "max_luminance" in data and "red_x" in data:
            found["mastering"] = _mastering(data)
        if kind == "Content light level metadata" and data.get("max_content"):
            found["content_light"] = f"{data['max_content']},{data.get('max_average', 0)}"
    return found


def _mastering(data: Facts) -> str:
    points = [("G", "green"), ("B", "blue"), ("R", "red"), ("WP", "white_point")]
    parts = [
        f"{short}({_units(data[f'{name}_x'], 50_000)},{_units(data[f'{name}_y'], 50_000)})"
        for short, name in points
    ]
    low, high = (_units(data[f"{end}_luminance"], 10_000) for end in ("min", "max"))
    return f"{''.join(parts)}L({high},{low})"


def _units(ratio: str, per_one: int) -> int:
    above, _, below = str(ratio).partition("/")
    return round(int(above) * per_one / (int(below or 1) or 1))


def dolby_vision(side_data: Sequence[Facts]) -> dict[str, int]:
    """``profile``, and ``compatible``: what else can show its base (0: nothing, 1: HDR10,
    2: SDR, 4: HLG, 6: Blu-ray). Empty if it is none."""
    for data in side_data:
        if data.get("side_data_type") == "DOVI configuration record":
            return {
                "profile": int(data.get("dv_profile", 0)),
                "compatible": int(data.get("dv_bl_signal_compatibility_id", 0)),
            }
    return {}
