"""Clips of three known colours, told in many ways, and what is seen of a result."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from backoffice.media import mp4

COLOURS = [(30, 160, 60), (192, 48, 32), (255, 255, 255), (128, 128, 128)]
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "4")
FFV1 = ("-c:v", "ffv1")


def bars(size: str) -> str:
    """The four colours side by side, in RGB."""
    parts = "".join(
        f",drawbox=x=iw*{n}/4:y=0:w=iw/4:h=ih:t=fill:c=0x{r:02x}{g:02x}{b:02x}"
        for n, (r, g, b) in enumerate(COLOURS)
    )
    return f"color=black:s={size}:r=25:d=0.4,format=gbrp{parts}"


def clip(size: str, filters: str, *encoder: str) -> Sequence[str]:
    return ("-f", "lavfi", "-i", bars(size), "-vf", f"setsar=1,{filters}", *encoder)


def tags(matrix: str, transfer: str = "", primaries: str = "", range: str = "tv") -> Sequence[str]:
    return (
        "-colorspace",
        matrix,
        "-color_trc",
        transfer or matrix,
        "-color_primaries",
        primaries or matrix,
        "-color_range",
        range,
    )


def yuv(matrix: str, pixels: str = "yuv420p", range: str = "tv") -> str:
    return f"scale=out_color_matrix={matrix}:out_range={range}:flags=accurate_rnd,format={pixels}"


def light(matrix: str, transfer: str, primaries: str, pixels: str = "yuv420p10le") -> str:
    """Through linear light; white at 203 cd/m² where that is said."""
    return (
        "format=gbrp16le,zscale=min=gbr:rin=full:pin=bt709:tin=bt709:npl=203"
        f":m={matrix}:t={transfer}:p={primaries}:r={'full' if matrix == 'gbr' else 'tv'}"
        f",format={pixels},setparams=colorspace={matrix}:color_trc={transfer}"
        f":color_primaries={primaries}"
    )


SD, WIDE, HD = "320x180", "720x576", "1280x96"
TOLD = {
    "rgb.mp4": clip(SD, "format=gbrp", "-c:v", "libx264rgb", "-crf", "4", "-pix_fmt", "rgb24"),
    "rgb-hd.mkv": clip(HD, "format=gbrp", *FFV1),
    "bgra.mov": clip(SD, "format=rgba", "-c:v", "qtrle"),
    "png.mov": clip(SD, "format=rgb24", "-c:v", "png"),
    "yuva.mkv": clip(SD, yuv("bt601", "yuva444p"), *FFV1),
    "yuva-hd.mkv": clip(HD, yuv("bt709", "yuva420p"), *FFV1),
    "rgb48.mkv": clip(SD, "format=gbrp12le", *FFV1),
    "untagged-hd.mp4": clip(HD, yuv("bt709"), *X264),
    "untagged-sd.mp4": clip(SD, yuv("bt601"), *X264),
    "untagged-pal.mkv": clip(WIDE, yuv("bt601"), *X264),
    "709-sd.mp4": clip(SD, yuv("bt709"), *X264, *tags("bt709")),
    "170m-hd.mp4": clip(HD, yuv("bt601"), *X264, *tags("smpte170m")),
    "470bg.mp4": clip(WIDE, yuv("bt601"), *X264, *tags("bt470bg", "gamma28")),
    "240m.mp4": clip(HD, yuv("smpte240m"), *X264, *tags("smpte240m")),
    "fcc.mp4": clip(HD, yuv("fcc"), *X264, *tags("fcc", "bt709", "bt709")),
    "matrix-only.mp4": clip(SD, yuv("bt709"), *X264, "-colorspace", "bt709"),
    "primaries-only.mp4": clip(SD, yuv("bt709"), *X264, "-color_primaries", "bt709"),
    "full-709.mp4": clip(HD, yuv("bt709", range="pc"), *X264, *tags("bt709", range="pc")),
    "full-601.mp4": clip(SD, yuv("bt601", "yuvj420p", "pc"), *X264, *tags("smpte170m", range="pc")),
    "mjpeg.avi": clip(SD, yuv("bt601", "yuvj422p", "pc"), "-c:v", "mjpeg", "-q:v", "1"),
    "mjpeg-hd.avi": clip(HD, yuv("bt601", "yuvj422p", "pc"), "-c:v", "mjpeg", "-q:v", "1"),
    "422.mp4": clip(HD, yuv("bt709", "yuv422p"), *X264),
    "422-10.mp4": clip(HD, yuv("bt709", "yuv422p10le"), *X264, *tags("bt709")),
    "444.mp4": clip(SD, yuv("bt601", "yuv444p"), *X264),
    "444-10-full.mkv": clip(
        SD, yuv("bt709", "yuv444p10le", "pc"), *X264, *tags("bt709", range="pc")
    ),
    "444-12.mkv": clip(HD, yuv("bt709", "yuv444p12le"), *FFV1),
    "prores.mov": clip(HD, yuv("bt709", "yuv422p10le"), "-c:v", "prores_ks"),
    "dv.avi": clip(
        "720x576",
        yuv("bt601"),
        "-c:v",
        "dvvideo",
    ),
    "gray.mp4": clip(SD, yuv("bt601", "gray"), *X264),
    "gray-full.mp4": clip(SD, "scale=out_range=pc,format=gray", *X264, "-color_range", "pc"),
    "gray-png.mov": clip(SD, "scale=out_range=pc,format=gray", "-c:v", "png"),
    "gray-ffv1.mkv": clip(SD, "scale=out_range=pc,format=gray10le", *FFV1),
    "2020.mp4": clip(HD, light("bt2020nc", "bt2020-10", "bt2020"), *X264),
    "2020-cl.mkv": clip(HD, light("bt2020c", "bt2020-10", "bt2020", "yuv444p10le"), *X264),
    "p3.mp4": clip(HD, light("bt709", "bt709", "smpte432"), *X264),
    "ycgco.mkv": clip(SD, "format=gbrp,zscale=min=gbr:rin=full:m=ycgco:r=tv,format=yuv444p", *X264),
    "pq.mp4": clip(SD, light("bt2020nc", "smpte2084", "bt2020"), *X264),
    "pq-8.mp4": clip(SD, light("bt2020nc", "smpte2084", "bt2020", "yuv420p"), *X264),
    "pq-rgb.mkv": clip(SD, light("gbr", "smpte2084", "bt2020", "gbrp12le"), *FFV1),
    "hlg.mp4": clip(SD, light("bt2020nc", "arib-std-b67", "bt2020"), *X264),
}


def seen(path: Path, *, at: float = 0.0) -> list[tuple[int, int, int]]:
    """The four colours of a picture as a screen shows them that goes by its tags."""
    # zscale: the default filter is up to 4 steps off.
    tv = "min=bt709:rin=tv" if path.suffix != ".jpg" else "min=bt470bg:rin=pc"
    seek = ["-ss", str(at)] if at else []
    argv = [
        "ffmpeg",
        "-v",
        "error",
        *seek,
        "-i",
        str(path),
        "-frames:v",
        "1",
        "-vf",
        f"zscale={tv}:m=gbr:r=full,format=gbrp,format=rgb24",
        "-f",
        "rawvideo",
        "-",
    ]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    width, height = size(path)
    middle = [(height // 2 * width + width * (2 * n + 1) // 8) * 3 for n in range(4)]
    return [(data[i], data[i + 1], data[i + 2]) for i in middle]


def size(path: Path) -> tuple[int, int]:
    argv = ["ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
    argv += ["-select_streams", "v:0", str(path)]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    width, height = answer.split()[0].split(",")[:2]
    return int(width), int(height)


# SMPTE ST 2086 as a box: green, blue, red and white in 0.00002, then 1000 and 0.005 cd/m².
MASTERING = struct.pack(
    ">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50
)
LIGHT = struct.pack(">2H", 1000, 400)


def dolby_vision(profile: int, compatible: int) -> bytes:
    """The box of Dolby Vision's stream configuration, version 1.0: base layer present,
    RPU present, level 1."""
    bits = profile << 25 | 1 << 19 | 0b101 << 16 | compatible << 12
    return bytes([1, 0]) + bits.to_bytes(4, "big") + bytes(18)


def with_box(source: Path, target: Path, kind: bytes, content: bytes) -> None:
    """Copy an MP4 whose index comes last, with one more box in its picture's entry."""
    data = source.read_bytes()
    box = struct.pack(">I4s", 8 + len(content), kind) + content
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    holders = [mp4.find(data, *path[: n + 1]) for n in range(len(path))]
    entry = next(mp4.boxes(data, holders[-1].start + 8, holders[-1].end))
    assert data.index(b"mdat") < holders[0].begin
    made = bytearray(data)
    for holder in (*holders, entry):
        length = holder.end - holder.begin + len(box)
        made[holder.begin : holder.begin + 4] = length.to_bytes(4, "big")
    target.write_bytes(made[: entry.end] + box + made[entry.end :])
