"""Pictures of digits as people make them, from images of MNIST: drawn, photographed, scanned.

for kind, make in KINDS.items():
    picture = make(image, np.random.default_rng(1))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFilter

from mnist_bp.model.parameters import UInt8Array

Draw = np.random.Generator


def png(pixels: UInt8Array, **settings: Any) -> bytes:
    """Encode grey levels (h, w) or colours (h, w, 3 or 4) as PNG."""
    return encoded(Image.fromarray(pixels), "PNG", **settings)


def encoded(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    """Encode a picture as PNG, JPEG or GIF."""
    file = BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def inverted(image: UInt8Array, _: Draw) -> bytes:
    """Black ink on white paper, 28 x 28."""
    return png(255 - image)


def enlarged(image: UInt8Array, _: Draw) -> bytes:
    """280 x 280, by bicubic resampling."""
    return png(_resampled(image, 280))


def off_centre(image: UInt8Array, draw: Draw) -> bytes:
    """Black on white, anywhere on a page of any shape, with the digit filling a third of it or more."""
    size = int(draw.integers(60, 200))
    ink = _resampled(image[3:25, 3:25], size)
    height, width = draw.integers(size + 5, 3 * size, 2)
    top, left = draw.integers(0, height - size), draw.integers(0, width - size)
    page = np.full((height, width), 255, np.uint8)
    page[top : top + size, left : left + size] = 255 - ink
    return png(page)


def photographed(image: UInt8Array, draw: Draw) -> bytes:
    """Dark grey on light grey, slightly turned and blurred, in light that fades to one side, with noise, as JPEG."""
    size = 280
    page = Image.fromarray(np.pad(_resampled(image, 200), 40)).rotate(draw.uniform(-8, 8), Image.Resampling.BICUBIC)
    ink = np.asarray(page.filter(ImageFilter.GaussianBlur(draw.uniform(0, 3)))) / 255
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    angle = draw.uniform(0, 2 * np.pi)
    light = 1 + draw.uniform(0.1, 0.5) * (np.cos(angle) * x + np.sin(angle) * y)
    grey = (draw.integers(140, 190) * (1 - ink) + draw.integers(30, 70) * ink) * light + draw.normal(0, 5, ink.shape)
    return encoded(Image.fromarray(grey.clip(0, 255).astype(np.uint8)), "JPEG", quality=75)


def thin(image: UInt8Array, _: Draw) -> bytes:
    """Thin strokes: enlarged to 280 x 280, eroded by 5 pixels on each side, and resampled to 60 x 60."""
    strokes = Image.fromarray(((_resampled(image, 280) > 127) * 255).astype(np.uint8))
    eroded = strokes.filter(ImageFilter.MinFilter(9)).filter(ImageFilter.MinFilter(3))
    return encoded(eroded.resize((60, 60), Image.Resampling.BILINEAR), "PNG")


KINDS: Final[Mapping[str, Callable[[UInt8Array, Draw], bytes]]] = {
    each.__name__: each for each in (inverted, enlarged, off_centre, photographed, thin)
}


def _resampled(image: UInt8Array, size: int) -> UInt8Array:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
