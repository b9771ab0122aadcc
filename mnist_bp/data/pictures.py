"""Pictures of digits: PNG and JPEG files, drawn or photographed, in any size, on light or on dark paper.

    bytes -> grey levels (h, w) -> ink (h, w) -> image (28, 28), by `mnist_bp.data.digits`

Ink is the distance from the paper, in the direction in which the rarer pixels lie. If all pixels along the edge of the
picture have one grey level, that is the paper's. Otherwise it is a photograph, with uneven light: the paper is a plane
a + b y + c x, fitted to the pixels that are not ink. Ink that is no stronger than the paper's noise is left out, and
the strongest becomes 255. A drawing in black on plain white, or the reverse, keeps every value.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_bp.data.digits import is_prepared, prepare_digit
from mnist_bp.errors import DataFormatError, counted
from mnist_bp.model.parameters import FloatArray, IntArray, UInt8Array

Polarity = Literal["dark on light", "light on dark"]

FORMATS: Final = ("PNG", "JPEG")

MAX_PIXELS: Final = 64_000_000
"""Pixels of the largest picture that is decoded; a telephone takes pictures of 12 or 50 million."""

MIN_SIDE: Final = 8
"""Shortest side of a picture, in pixels."""

REDUCED: Final = 500
"""A picture with a side of at least twice as many pixels is reduced by the largest whole factor that leaves as many."""

MIN_CONTRAST: Final = 16
"""Grey levels by which the strongest ink must exceed the noise of the paper."""

FITS: Final = 3
"""Fits of a plane to the paper after the first, which is to all pixels; each leaves out the ink found so far."""

_NOISE: Final = 4 * 1.4826
"""Of normal noise, the median absolute deviation times this is 4 standard deviations."""


@dataclass(frozen=True)
class Picture:
    """A digit that was read from a picture.

    Args:
        image: Pixels from 0 (paper) to 255, shape (28, 28).
        width, height: Size of the picture in pixels.
        polarity: Whether ink is darker or lighter than paper.
        prepared: Whether the digit was scaled and centred; False if it had the size and position of MNIST's.
    """

    image: UInt8Array
    width: int
    height: int
    polarity: Polarity
    prepared: bool


def read_picture(content: bytes, name: str) -> Picture:
    """Read a digit from a picture, and prepare it as MNIST's were.

    Args:
        content: A PNG or JPEG file.
        name: Its name, for messages.

    Raises:
        DataFormatError: It is not a picture, too large, too small or animated, or shows nothing.
    """
    grey = decode_picture(content, name)
    height, width = grey.shape
    dark, light = 255 - grey, grey
    if is_prepared(light):
        return Picture(light, width, height, "light on dark", prepared=False)
    if is_prepared(dark):
        return Picture(dark, width, height, "dark on light", prepared=False)
    if (factor := max(grey.shape) // REDUCED) > 1:
        grey = np.asarray(Image.fromarray(grey).reduce(factor))
    ink, polarity = _find_ink(grey, name)
    return Picture(prepare_digit(ink), width, height, polarity, prepared=True)


def decode_picture(content: bytes, name: str) -> UInt8Array:
    """Decode a picture to grey levels: the luma of colours, the upper 8 of 16 bits, turned as its EXIF data state.

    What is transparent becomes white behind dark colours, and black behind light ones.

    Args:
        content: A PNG or JPEG file.
        name: Its name, for messages.

    Returns:
        From 0 (black) to 255 (white), shape (height, width).

    Raises:
        DataFormatError: It is not a picture, too large, too small or animated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # among others, that it is large, or that its EXIF data are damaged
            with Image.open(BytesIO(content), formats=FORMATS) as picture:
                _check_header(picture, name)
                return _grey(ImageOps.exif_transpose(picture))
    except DataFormatError:
        raise
    except UnidentifiedImageError as exc:
        found = f"{counted(len(content), 'byte')} of another kind" if content else "empty"
        raise DataFormatError(f"{name} is {found}, expected a PNG or JPEG picture, or a batch: IDX or .npy") from exc
    except Image.DecompressionBombError as exc:
        raise _too_large(name) from exc
    except Exception as exc:  # decoders raise errors of many types for damaged files
        raise DataFormatError(f"{name} cannot be decoded: {exc or type(exc).__name__}; save it again as PNG") from exc


def scale_picture(grey: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Scale grey levels, shape (h, w), to a width and a height; those that have them are returned unchanged."""
    if size == grey.shape[::-1]:
        return grey
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))


def _check_header(picture: Image.Image, name: str) -> None:
    """Refuse a picture before its pixels are decoded."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_large(name)
    if min(width, height) < MIN_SIDE:
        raise DataFormatError(f"{name} has {width:,} x {height:,} pixels, expected at least {MIN_SIDE} x {MIN_SIDE}")
    frames = getattr(picture, "n_frames", 1)
    if picture.format == "PNG" and frames > 1:  # telephones put a second picture into a JPEG, which is left out
        raise DataFormatError(f"{name} is animated: it has {frames:,} frames, expected one; save one of them")


def _too_large(name: str) -> DataFormatError:
    return DataFormatError(f"{name} has more than {MAX_PIXELS:,} pixels, which is the limit: scale it down")


def _grey(picture: Image.Image) -> UInt8Array:
    if picture.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them
        levels: IntArray = np.asarray(picture).astype(np.int64) // 257
        return levels.clip(0, 255).astype(np.uint8)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    coloured = picture.convert("RGBA")
    luma, opacity = coloured.convert("L"), coloured.getchannel("A")
    weights = np.asarray(opacity)
    opaque = int(weights.sum(dtype=np.int64))
    dark = int(np.multiply(np.asarray(luma), weights, dtype=np.uint16).sum(dtype=np.int64)) < 128 * opaque
    page = Image.new("L", picture.size, 255 if dark or not opaque else 0)
    page.paste(luma, mask=opacity)
    return np.asarray(page)


def _find_ink(grey: UInt8Array, name: str) -> tuple[UInt8Array, Polarity]:
    """Return the ink, from 0 (paper) to 255, and whether it is darker than the paper; see the module."""
    levels = grey.astype(np.float64)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    plain = edge.min() == edge.max()
    paper = np.full_like(levels, edge[0]) if plain else _plane(levels, np.ones(grey.shape, np.bool_))
    dark = float(((levels - paper) ** 3).sum()) < 0
    sign = -1 if dark else 1
    ink = _ink(sign * (levels - paper))
    for _ in range(0 if plain else FITS):
        paper = _plane(levels, ink <= _threshold(ink))
        ink = _ink(sign * (levels - paper))
    threshold = _threshold(ink)
    rest = (levels - paper)[ink <= threshold]
    noise = _NOISE * float(np.median(np.abs(rest - np.median(rest))))
    strongest = float(np.percentile(ink[ink > threshold], 90)) if noise else float(ink.max())
    if strongest - noise < MIN_CONTRAST:
        raise DataFormatError(
            f"{name} shows nothing: its ink differs from the paper by {max(0, strongest - noise):.0f} of 255 grey "
            f"levels, expected at least {MIN_CONTRAST}; give a picture of one digit, dark on light or light on dark"
        )
    faintest = min(noise, float(threshold))
    scaled = (ink - faintest) * (255 / (strongest - faintest))
    return np.floor(scaled.clip(0, 255) + 0.5).astype(np.uint8), "dark on light" if dark else "light on dark"


def _ink(difference: FloatArray) -> IntArray:
    ink: IntArray = np.rint(difference.clip(0, 255)).astype(np.int64)
    return ink


def _plane(levels: FloatArray, where: npt.NDArray[np.bool_]) -> FloatArray:
    """Fit a plane to some of the grey levels by least squares, and return it everywhere."""
    (h, w), ones = levels.shape, np.ones(levels.shape)
    y, x = np.mgrid[0:h, 0:w]
    terms = np.stack([ones, y / h - 0.5, x / w - 0.5], axis=-1)  # (h, w, 3)
    some = terms[where]
    factors = np.linalg.lstsq(some.T @ some, some.T @ levels[where], rcond=None)[0]
    plane: FloatArray = terms @ factors
    return plane


def _threshold(ink: IntArray) -> int:
    """Return the value that best divides values into two groups: the largest of the lower one.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
    Cybernetics 9(1), 1979: the variance between the groups is largest.
    """
    counts = np.bincount(ink.ravel(), minlength=256)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    both = np.maximum(below * above, 1).astype(np.float64)
    return int(np.argmax((sums[-1] * (below / below[-1]) - sums) ** 2 / both))
