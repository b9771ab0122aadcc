"""Counter-based random numbers: each is a pure function of (seed, purpose, position), so no state is ever saved.

Initial weights come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), the
generator that torch uses on CUDA. The four counter words are laid out as in cuRAND for one number per thread:

    word 0            which parameter
    word 1            0
    word 2            element              index within the parameter
    word 3            0

so that `normal(seed, k, n)` is within 3e-6 (on an H200, four seeds) of what `torch.nn.init.normal_` draws on a GPU for
the k-th tensor after `torch.cuda.manual_seed(seed)`, as long as the GPU computes each element in a separate thread.

The order of the examples and their shifts come from NumPy's Philox4x64-10, with the seed as its key and the epoch in
its counter. Only the generator's raw words are used: its algorithm fixes them, whereas NumPy's shuffles may change with
a release.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_ROUNDS: Final = 10
_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)

_TOGETHER: Final = 16_384
"""Normal numbers that are drawn at a time: the arrays of so many stay in the cache of a core."""

Words = npt.NDArray[np.uint64]
Counter = tuple[Words, Words, Words, Words]


def philox(counter: Counter, key: tuple[int, int]) -> Counter:
    """Encrypt counters into random words: Philox4x32-10.

    Source: Salmon et al. (above), and the constants of its reference implementation, Random123.

    Args:
        counter: Four words, arrays of the same shape, values in [0, 2**32).
        key: Two words, in [0, 2**32).

    Returns:
        Four random words for each counter, values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    key0, key1 = key
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = product1 >> _HALF
        c0 ^= c1 ^ np.uint64(key0)
        c2 = product0 >> _HALF
        c2 ^= c3 ^ np.uint64(key1)
        c1, c3 = product1 & _LOW, product0 & _LOW
        key0, key1 = (key0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (key1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normal(seed: int, position: int, count: int) -> npt.NDArray[np.float32]:
    """Draw standard normal numbers with the Box-Muller transform.

    Source: cuRAND's `curand_normal` on the first two words of Philox4x32-10.

    The uniform numbers are rounded to float32, as on the GPU; the transform is computed in float64 and rounded once.
    The mathematics libraries of two machines may differ in the last bit of float64, which almost never changes the
    result (0 of 10 million values changed when that bit was perturbed by two units).

    Args:
        seed: 64-bit key.
        position: Index of the draw after seeding: 0 for the first tensor, 1 for the second, ...
        count: Number of values.

    Returns:
        Shape (count,), float32.
    """
    drawn = np.empty(count, np.float32)
    for start in range(0, count, _TOGETHER):
        element = np.arange(start, min(start + _TOGETHER, count), dtype=np.uint64)
        counter = (np.full_like(element, position), np.zeros_like(element), element, np.zeros_like(element))
        x, y, _, _ = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
        u = (x * 2.0**-32 + 2.0**-33).astype(np.float32).astype(np.float64)
        v = ((y * 2.0**-32 + 2.0**-33) * (2 * np.pi)).astype(np.float32).astype(np.float64)
        drawn[start : start + _TOGETHER] = np.sin(v) * np.sqrt(-2.0 * np.log(u))
    return drawn


def shifts(seed: int, epoch: int, count: int, reach: int) -> npt.NDArray[np.int64]:
    """Draw a shift for each place in the order of an epoch, uniformly.

    Args:
        seed: 64-bit key.
        epoch: Index of the epoch, from 0.
        count: Number of places.
        reach: Largest shift along an axis, in pixels.

    Returns:
        Downwards and to the right, in [-reach, reach], shape (2, count).
    """
    # 2**64 counters after those of the epoch's permutation
    words = np.random.Philox(key=seed, counter=(epoch << 128) + (1 << 64)).random_raw(count)
    halves = np.stack([words >> _HALF, words & _LOW])  # in [0, 2**32)
    return (halves * np.uint64(2 * reach + 1) >> _HALF).astype(np.int64) - reach


def permutation(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """Shuffle the numbers 0 to count - 1 by sorting them by random bits, 48 bits each for up to 65,536 numbers.

    Args:
        seed: 64-bit key.
        epoch: Index of the shuffle, from 0.
        count: Number of examples. If two have equal bits (of 60,000, in one shuffle of 150,000), the smaller number
            comes first.

    Returns:
        Shape (count,), int64, each of 0 to count - 1 once.
    """
    keys = np.random.Philox(key=seed, counter=epoch << 128).random_raw(count)  # each epoch has 2**128 counters
    bits = np.uint64(max(16, (count - 1).bit_length()))
    keys <<= bits  # random bits and number in one word: no two are equal, so every sorting algorithm agrees
    keys |= np.arange(count, dtype=np.uint64)
    keys.sort()
    keys &= (np.uint64(1) << bits) - np.uint64(1)
    return keys.view(np.int64)
