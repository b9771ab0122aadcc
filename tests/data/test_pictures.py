"""Ink is found on any paper, and what is not a picture of a digit is refused in one line."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from mnist_bp.data import pictures
from mnist_bp.data.digits import prepare_digit
from mnist_bp.data.pictures import decode_picture, read_picture
from mnist_bp.errors import DataFormatError
from mnist_bp.model.parameters import UInt8Array
from tests.support.drawings import encoded, png

INK = np.zeros((60, 50), np.uint8)
INK[10:16, 10:35] = 255  # a seven
INK[10:50, 29:35] = 255
SEVEN = prepare_digit(INK)


def colours(*channels: Any) -> UInt8Array:
    return np.stack(np.broadcast_arrays(*channels), axis=-1).astype(np.uint8)


WHITE, BLACK = 255 - INK, INK
"""The seven in black on white, and in white on black."""

DRAWN = {
    "black on white": png(WHITE),
    "white on black": png(BLACK),
    "dark grey on light grey": png((200 - INK // 255 * 120).astype(np.uint8)),
    "light grey on dark grey": png((90 + INK // 255 * 60).astype(np.uint8)),
    "in colour": png(colours(255 - INK // 2, 230 - INK // 2, 255 - INK)),
    "black on transparent": png(colours(0, 0, 0, INK)),
    "white on transparent": png(colours(255, 255, 255, INK)),
    "black on a transparent palette": encoded(Image.fromarray(INK // 255, "L").convert("P"), "PNG", transparency=0),
    "one bit": encoded(Image.fromarray(WHITE).convert("1"), "PNG"),
    "16 bits": encoded(Image.fromarray(WHITE.astype(np.uint16) * 257), "PNG"),
    "CMYK": encoded(Image.fromarray(WHITE).convert("RGB").convert("CMYK"), "JPEG", quality=100),
    "grey JPEG": encoded(Image.fromarray(WHITE), "JPEG", quality=100),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_a_drawing_is_read_in_every_mode(kind: str) -> None:
    picture = read_picture(DRAWN[kind], kind)
    assert (picture.width, picture.height, picture.prepared) == (50, 60, True)
    assert np.abs(picture.image.astype(int) - SEVEN).max() <= (8 if "JPEG" in kind or kind == "CMYK" else 0)
    assert (picture.polarity == "light on dark") == (kind.startswith(("white", "light")))


def test_grey_values_of_a_drawing_on_plain_paper_are_kept() -> None:
    soft = INK.copy()
    soft[10:16, 10:20] = 100
    for page in (soft, 255 - soft):
        assert read_picture(png(page), "soft").image.tolist() == prepare_digit(soft).tolist()


def test_levels_of_16_bits_are_not_clipped() -> None:
    levels = np.linspace(0, 65_535, 100).reshape(10, 10).astype(np.uint16)
    assert decode_picture(encoded(Image.fromarray(levels), "PNG"), "16 bits").tolist() == (levels // 257).tolist()


def test_a_picture_is_turned_as_its_exif_data_state() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view it
    turned = png(np.rot90(WHITE), exif=exif)
    assert read_picture(turned, "turned").image.tolist() == SEVEN.tolist()


def test_the_first_picture_of_a_jpeg_with_several_is_read() -> None:
    first, second = Image.fromarray(WHITE), Image.fromarray(BLACK)
    file = BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second], quality=100)
    assert read_picture(file.getvalue(), "telephone").polarity == "dark on light"


def test_light_that_fades_across_the_paper_and_noise_are_no_ink() -> None:
    y, x = np.mgrid[0:300, 0:250]
    ink = INK.repeat(5, 0).repeat(5, 1) / 255
    draw = np.random.default_rng(1)
    for dark_side in (x / 250, y / 300):
        grey = 200 - 110 * dark_side - 70 * ink + draw.normal(0, 4, ink.shape)  # ink here is lighter than paper there
        picture = read_picture(png(grey.clip(0, 255).astype(np.uint8)), "photograph")
        assert picture.polarity == "dark on light"
        assert np.abs(picture.image.astype(int) - SEVEN).mean() < 6


def test_a_photographed_digit_that_fills_the_picture_is_ink_and_not_paper() -> None:
    ink = INK[10:50, 10:35].repeat(6, 0).repeat(6, 1) / 255  # it touches three edges
    grey = 190 - 120 * ink + np.random.default_rng(1).normal(0, 4, ink.shape)
    picture = read_picture(png(grey.clip(0, 255).astype(np.uint8)), "close")
    assert picture.polarity == "dark on light"
    assert np.abs(picture.image.astype(int) - SEVEN).mean() < 6


def test_a_shadow_in_a_corner_does_not_decide_what_is_ink() -> None:
    y, x = np.mgrid[0:300, 0:250]
    ink = INK.repeat(5, 0).repeat(5, 1) / 255
    shadow = np.maximum(0, 1 - np.hypot(x, y) / 60)  # in the upper left corner, darker than the ink
    grey = 200 - 90 * ink - 150 * shadow
    assert read_picture(png(grey.clip(0, 255).astype(np.uint8)), "shadow").polarity == "dark on light"


def test_a_large_picture_is_reduced_before_its_ink_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def prepare(ink: UInt8Array) -> UInt8Array:
        shapes.append(ink.shape)
        return prepare_digit(ink)

    monkeypatch.setattr(pictures, "prepare_digit", prepare)
    for scale in (40, 16):
        picture = read_picture(png(WHITE.repeat(scale, 0).repeat(scale, 1)), "large")
        assert (picture.width, picture.height) == (50 * scale, 60 * scale)
        assert np.abs(picture.image.astype(int) - SEVEN).max() <= 2
    assert shapes == [(600, 500), (960, 800)]


def test_a_narrow_picture_of_many_pixels_is_read() -> None:
    page = np.full((8, 6_000), 255, np.uint8)
    page[2:6, 100:5_900] = 0
    assert read_picture(png(page), "narrow").image.any()


def test_an_image_in_the_form_of_mnists_is_used_unchanged() -> None:
    for page in (SEVEN, 255 - SEVEN):
        picture = read_picture(png(page), "prepared")
        assert not picture.prepared
        assert picture.image.tolist() == SEVEN.tolist()


def animation() -> bytes:
    return encoded(
        Image.fromarray(WHITE), "PNG", save_all=True, append_images=[Image.fromarray(BLACK)], default_image=False
    )


def noise(deviation: float) -> bytes:
    grey = np.random.default_rng(1).normal(128, deviation, (200, 200))
    return png(grey.clip(0, 255).astype(np.uint8))


def claimed(width: int, height: int) -> bytes:
    """A PNG whose header claims a size: it must be refused by it, since the pixels are missing."""
    content = png(np.zeros((8, 8), np.uint8))
    header = struct.pack(">II", width, height) + content[24:29]
    return content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it is empty, expected a PNG or JPEG picture"),
        (b"x", "it is 1 byte of another kind, expected a PNG or JPEG picture"),
        (b"no picture", "it is 10 bytes of another kind, expected a PNG or JPEG picture"),
        (encoded(Image.fromarray(WHITE), "GIF"), "bytes of another kind, expected a PNG or JPEG picture"),
        (png(WHITE)[:-30], "it cannot be decoded: "),
        (encoded(Image.fromarray(WHITE), "JPEG")[:-300], "it cannot be decoded: "),
        (png(np.zeros((1, 1), np.uint8)), "it has 1 x 1 pixels, expected at least 8 x 8"),
        (png(np.zeros((50, 7), np.uint8)), "it has 7 x 50 pixels, expected at least 8 x 8"),
        (png(np.zeros((50, 50), np.uint8)), "it shows nothing: its ink differs from the paper by 0 of 255 grey levels"),
        (png(np.full((50, 50), 255, np.uint8)), "it shows nothing: "),
        (png(np.zeros((50, 50, 4), np.uint8)), "it shows nothing: "),
        (noise(3), "it shows nothing: "),
        (noise(20), "it shows nothing: "),
        (animation(), "it is animated: it has 2 frames, expected one"),
        (claimed(10_000, 10_000), "it has more than 64,000,000 pixels"),  # Pillow would warn
        (claimed(40_000, 40_000), "it has more than 64,000,000 pixels"),  # Pillow would refuse it
    ],
)
def test_what_is_no_picture_of_a_digit_is_refused_in_one_line(content: bytes, expected: str) -> None:
    with pytest.raises(DataFormatError) as refused:
        read_picture(content, "it")
    assert expected in str(refused.value)
    assert str(refused.value).startswith("it ")
    assert "\n" not in str(refused.value)


def test_a_picture_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = png(WHITE)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 2_999)  # it has 3,000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(DataFormatError, match="more than 2,999 pixels"):
        read_picture(content, "it")
