from __future__ import annotations

from typing import Any

import pytest

from backoffice.media import colour
from backoffice.media.colour import BT709, HLG, PQ, Colour


def picture(pixels: str = "yuv420p", size: tuple[int, int] = (1920, 1080), **said: Any) -> Any:
    facts = {"width": size[0], "height": size[1], "pixel_format": pixels}
    return facts | {"colour": said}


@pytest.mark.parametrize(
    ("facts", "meant"),
    [
        (picture(), BT709),
        (picture(size=(720, 1280)), BT709),
        (picture(size=(1024, 576)), Colour("tv", "smpte170m", "bt709", "bt709")),
        (picture(size=(640, 360)), Colour("tv", "smpte170m", "bt709", "bt709")),
        (picture("yuvj420p"), Colour("pc", "bt709", "bt709", "bt709")),
        (picture("gbrp", matrix="gbr"), Colour("pc", "gbr", "bt709", "bt709")),
        (picture("bgra"), Colour("pc", "gbr", "bt709", "bt709")),
        (picture("0rgb"), Colour("pc", "gbr", "bt709", "bt709")),
        (picture("x2rgb10le"), Colour("pc", "gbr", "bt709", "bt709")),
        (picture("pal8"), Colour("pc", "gbr", "bt709", "bt709")),
        (picture(matrix="gbr"), BT709),
        (picture(size=(640, 360), primaries="bt709"), BT709),
        (picture(primaries="bt2020"), Colour("tv", "bt2020nc", "bt709", "bt2020")),
        (picture(transfer=PQ), Colour("tv", "bt2020nc", PQ, "bt2020")),
        (picture(transfer=HLG, primaries="bt709"), Colour("tv", "bt709", HLG, "bt709")),
        (
            picture() | {"dolby_vision": {"profile": 8, "compatible": 4}},
            Colour("tv", "bt2020nc", HLG, "bt2020"),
        ),
    ],
)
def test_what_a_picture_means(facts: Any, meant: Colour) -> None:
    assert colour.of(facts) == meant


def test_only_dolby_vision_without_a_base_is_refused() -> None:
    assert colour.unusable(picture()) == ""
    assert colour.unusable({"dolby_vision": {"profile": 8, "compatible": 1}}) == ""
    assert "profile 5" in colour.unusable({"dolby_vision": {"profile": 5, "compatible": 0}})


def test_what_stays_wide_is_what_was_wide() -> None:
    assert colour.kept(picture(matrix="smpte170m")) == BT709
    assert colour.kept(picture(transfer=PQ)) == Colour("tv", "bt2020nc", PQ, "bt2020")
    assert colour.kept(picture("gbrp12le", transfer=PQ)).matrix == "bt2020nc"
    assert colour.kept(picture(transfer=HLG, range="pc")).range == "tv"


@pytest.mark.parametrize(
    "pixels", ["yuva420p", "yuva444p12le", "rgba", "bgra", "argb", "gbrap10le", "ya8", "rgba64be"]
)
def test_pixels_that_can_be_transparent(pixels: str) -> None:
    assert colour.has_alpha(picture(pixels))


@pytest.mark.parametrize("pixels", ["yuv420p", "rgb24", "gbrp", "bgr0", "gray", "yuvj444p"])
def test_pixels_that_cannot(pixels: str) -> None:
    assert not colour.has_alpha(picture(pixels))


def test_metadata_of_hdr_is_told_in_the_units_of_the_encoder() -> None:
    display = {
        "side_data_type": "Mastering display metadata",
        "red_x": "34000/50000",
        "red_y": "16000/50000",
        "green_x": "13250/50000",
        "green_y": "34500/50000",
        "blue_x": "75/500",
        "blue_y": "3000/50000",
        "white_point_x": "15635/50000",
        "white_point_y": "16450/50000",
        "min_luminance": "50/10000",
        "max_luminance": "1000/1",
    }
    light = {
        "side_data_type": "Content light level metadata",
        "max_content": 1000,
        "max_average": 400,
    }
    assert colour.light_metadata([display, light]) == {
        "mastering": "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)",
        "content_light": "1000,400",
    }
    assert colour.light_metadata([{"side_data_type": "Mastering display metadata"}]) == {}
