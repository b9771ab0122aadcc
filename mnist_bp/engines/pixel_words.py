"""Images as the CPU engine keeps them: the nonzero pixels alone, packed into 64-bit words.

An image is a sequence of byte pairs, (distance from the previous pixel, value), four pairs to a word: 300 bytes instead
of 784, in one stream. A gap that a byte cannot hold is bridged with a pair of value 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numba import types

from mnist_bp.engines.numba_cache import compile_cached
from mnist_bp.model.parameters import UInt8Array

_ONE, _TWO, _BYTE = np.uint64(1), np.uint64(2), np.uint64(255)
_MAX_DISTANCE: Final = np.uint64(247)
"""Largest distance to the first of eight pixels, so that each of the eight is at most 255 away."""


def pack_kernel(eights: Any, pairs: Any, starts: Any) -> None:
    """Pack the nonzero pixels as byte pairs, and pad each image to whole words with pairs of zeros.

    Args:
        eights: Pixels, eight to a word, shape (N, D / 8), uint64, little-endian.
        pairs: Receives the pairs, uint8, of the size given by `max_words`.
        starts: Receives the index of each image's first word, shape (N + 1,), uint32.
    """
    at = np.uint64(0)  # in bytes
    for image in range(eights.shape[0]):
        starts[image] = at // 8
        before = np.uint64(0)
        for e in range(eights.shape[1]):
            eight = eights[image, e]
            if eight == 0:
                continue
            p = np.uint64(8 * e)
            while p - before > _MAX_DISTANCE:  # bridge a longer gap with a pair of value 0
                pairs[at], pairs[at + _ONE] = _MAX_DISTANCE, 0
                before, at = before + _MAX_DISTANCE, at + _TWO
            for _ in range(8):  # write all, advance past the nonzero ones: half the time of testing first
                value = eight & _BYTE
                pairs[at], pairs[at + _ONE] = p - before, value
                if value != 0:
                    before, at = p, at + _TWO
                eight >>= np.uint64(8)
                p += _ONE
        while at % 8 != 0:
            pairs[at], pairs[at + _ONE] = 0, 0
            at += _TWO
    starts[eights.shape[0]] = at // 8


def max_words(images: UInt8Array) -> int:
    """Return an upper bound of the number of words that `pack_kernel` writes and the other kernels prefetch.

    Args:
        images: Shape (N, D).
    """
    pairs = np.count_nonzero(images) + len(images) * (images.shape[1] // int(_MAX_DISTANCE) + 3)
    return int(pairs) // 4 + 8  # beyond the last word: prefetches, and pairs that are overwritten


@lru_cache
def compiled_packer() -> Callable[..., None]:
    """Compile `pack_kernel`, or load it from the cache."""
    pairs, starts = types.Array(types.uint8, 1, "C"), types.Array(types.uint32, 1, "C")
    eights = types.Array(types.uint64, 2, "C", readonly=True)
    (packer,) = compile_cached("pack", (pack_kernel, (eights, pairs, starts)))
    return packer
