"""The kernels of the CPU engine: loops over the nonzero pixels, with accumulators that stay in registers.

Four of five MNIST pixels are zero: they add nothing to z1, and the gradient of their weights is zero. The kernels visit
only the other pixels:

    forward    z1 += x[p] * W1[p, :]              for each nonzero pixel p of an image
    (6)        W1[p, :] -= rate * x[p] * dz1      the same pixels again; dW1 is never stored

A step with batch size 10 touches 1,500 rows of W1 twice; each row is 30 numbers, or two AVX-512 registers. Most of the
remaining time is spent storing those rows.

With more hidden units, W1 exceeds the L1 cache several times over, but the rows that a batch touches in one block of 32
units are about 400, or 50 KB. Therefore the loop over blocks is outside the loop over images, and a block is visited
once for both (6) of a step and the forward pass of the next one. Each sum keeps its order.

Layout, and why:

- Hidden units are padded to 32 lanes and classes to 16, so that a row is a whole number of vectors. A padded unit
  would output sigmoid(0) = 0.5 and learn, so `hidden_mask` and `class_mask` keep it at 0.
- W1 is stored in blocks of 32 units, one after the other, as one sequence of numbers: a row is one vector, and the
  distance to the row of the next pixel is the distance of the pixels times 32.
- W2 is stored twice, as (H, K) for the forward pass and as (K, H) for (4), so that both read along rows.
- An image is a sequence of byte pairs, (distance from the previous pixel, value), four pairs to a 64-bit word; see
  `mnist_bp.engines.pixel_words`. The words of the step after next are prefetched while a step is computed; otherwise
  every image would stall on memory.
- An image is moved by starting at another row of W1: its pairs are distances, so they move together.
- In layer 2, two examples or two rows are computed at a time: they share loads, and neither waits for its own sum.
- Pixels stay bytes; a table of 256 entries converts them to x in the precision of the weights, including the scale.

numba is used instead of a C++ extension because it needs no compiler on the machine, and compiles for the processor
that it runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numba import from_dtype, njit, types

from mnist_bp.engines.flush_to_zero import FLUSH, read_control, write_control
from mnist_bp.engines.numba_cache import compile_cached
from mnist_bp.engines.numba_vectors import (
    VectorOps,
    fma,
    only_where_positive,
    prefetch,
    relu,
    sigmoid,
    store,
    vector_ops,
)
from mnist_bp.model.parameters import FloatArray

HIDDEN_LANES: Final = 32
CLASS_LANES: Final = 16
PREFETCH_STEPS: Final = 2
"""Steps between prefetching an image into the cache and computing with it."""

PREDICT_BLOCK: Final = 16
"""Images that are predicted together, layer by layer, so that none waits for the result of the previous one."""

load_h, broadcast_h, zeros_h = vector_ops(HIDDEN_LANES)
load_k, broadcast_k, zeros_k = vector_ops(CLASS_LANES)

_ONE, _BYTE = np.uint64(1), np.uint64(255)
_LANES: Final = np.uint64(HIDDEN_LANES)
_FLUSH: Final = np.uint64(FLUSH)


class Padded(NamedTuple):
    """A model in the kernels' layout: rows are padded with zeros to whole vectors, of length H_ or K_.

    Args:
        W1: Blocks of hidden units, each of shape (D, 32), one after the other, shape (1, H_ * D).
        b1: Shape (1, H_).
        W2: Shape (H, K_), with H rounded up to an even number.
        W2_T: The same weights transposed, shape (K, H_).
        b2: Shape (1, K_).
        hidden_mask: Shape (1, H_): 1 for a hidden unit, 0 for padding.
        class_mask: Shape (1, K_): 1 for a class, 0 for padding.
    """

    W1: FloatArray
    b1: FloatArray
    W2: FloatArray
    W2_T: FloatArray
    b2: FloatArray
    hidden_mask: FloatArray
    class_mask: FloatArray


@njit
def _pixel(word: Any, place: int) -> Any:
    """Return one of the four pixels of a word: how far its row in W1 is from the previous pixel's, and its value."""
    distance, value = (word >> np.uint64(16 * place)) & _BYTE, (word >> np.uint64(16 * place + 8)) & _BYTE
    return distance * _LANES, value


@njit
def _input_count(model: Any) -> Any:
    """Return D; call it once per kernel: a division for each image makes a step take a third longer."""
    return np.uint64(model.W1.shape[1] // model.b1.shape[1])


@njit
def _first_row(block: int, D: Any, offset: int) -> Any:
    """Return where the row of pixel 0 begins in W1 for a block of hidden units, if the image is moved by an offset."""
    return np.uint64(block) * D + np.uint64(offset) * _LANES  # a negative one wraps around twice


@njit
def _pre_activation(model: Any, words: Any, first: int, last: int, x: Any, block: int, D: Any, offset: int) -> Any:
    """Compute z1 = x W1 + b1 of one image, for one block of hidden units.

    The four products of a word are added first: this way the sums of several words are computed in parallel, z1 is
    rounded a quarter as often, and only two sums are kept, which fit into the registers of AVX2.
    """
    z1 = load_h(model.b1, 0, block)
    row = _first_row(block, D, offset)
    for w in range(first, last):
        word = words[w]
        distance, value = _pixel(word, 0)
        row += distance
        word_sum = broadcast_h(x, 0, value) * load_h(model.W1, 0, row)
        for place in range(1, 4):
            distance, value = _pixel(word, place)
            row += distance
            word_sum = fma(broadcast_h(x, 0, value), load_h(model.W1, 0, row), word_sum)
        z1 = z1 + word_sum
    return z1


@njit
def _hidden(
    model: Any,
    words: Any,
    first: int,
    last: int,
    x: Any,
    a1: Any,
    i: int,
    block: int,
    D: Any,
    offset: int,
    with_relu: bool,
) -> None:
    """Compute a1 of one image into row i, for one block of hidden units."""
    z1 = _pre_activation(model, words, first, last, x, block, D, offset)
    activation = relu(z1) if with_relu else sigmoid(z1)
    store(a1, i, block, activation * load_h(model.hidden_mask, 0, block))


@njit
def _hidden_of_step(
    model: Any,
    words: Any,
    starts: Any,
    rows: Any,
    offsets: Any,
    step: int,
    x: Any,
    a1: Any,
    block: int,
    D: Any,
    with_relu: bool,
) -> None:
    """Compute a1 of a step's examples, for one block of hidden units; nothing if there is no such step."""
    if step < rows.shape[0]:
        for i in range(rows.shape[1]):
            image = np.uint64(rows[step, i])
            first, last = starts[image], starts[image + _ONE]
            _hidden(model, words, first, last, x, a1, i, block, D, offsets[step, i], with_relu)


@njit
def _two_predicted(model: Any, a1: Any, i: int, j: int, block: int) -> Any:
    """Compute a2 = sigmoid(a1 W2 + b2) of rows i and j, for one block of classes."""
    z2_i = z2_j = load_k(model.b2, 0, block)
    z2_i_odd = z2_j_odd = zeros_k(a1)
    for h in range(0, model.W2.shape[0], 2):
        even, odd = load_k(model.W2, h, block), load_k(model.W2, h + 1, block)
        z2_i, z2_j = fma(broadcast_k(a1, i, h), even, z2_i), fma(broadcast_k(a1, j, h), even, z2_j)
        z2_i_odd = fma(broadcast_k(a1, i, h + 1), odd, z2_i_odd)
        z2_j_odd = fma(broadcast_k(a1, j, h + 1), odd, z2_j_odd)
    mask = load_k(model.class_mask, 0, block)
    return sigmoid(z2_i + z2_i_odd) * mask, sigmoid(z2_j + z2_j_odd) * mask


@njit
def _output_gradient(model: Any, a2: Any, targets: Any, label: int, block: int, with_cross_entropy: bool) -> Any:
    """Compute (1) dz2 = (a2 - t) * a2 * (1 - a2), or (1') dz2 = a2 - t, for one block of classes."""
    error = a2 - load_k(targets, label, block)
    if with_cross_entropy:
        return error
    return error * (a2 * (load_k(model.class_mask, 0, block) - a2))


def _product_adder(vectors: VectorOps, lanes: int) -> Callable[..., None]:
    """Return a function that adds left^T right, summed over the batch, to a matrix with rows of vectors of a length."""
    load, broadcast, zeros = vectors

    @njit
    def add_product(matrix: Any, left: Any, right: Any) -> None:
        last = matrix.shape[0] - 1
        for r in range(0, matrix.shape[0], 2):
            other = min(r + 1, last)  # of an odd number, the last row is computed twice, and not changed in between
            for column in range(0, matrix.shape[1], lanes):
                total = total_of_other = zeros(matrix)
                for i in range(left.shape[0]):
                    vector = load(right, i, column)
                    total = fma(broadcast(left, i, r), vector, total)
                    total_of_other = fma(broadcast(left, i, other), vector, total_of_other)
                total = load(matrix, r, column) + total
                total_of_other = load(matrix, other, column) + total_of_other
                store(matrix, r, column, total)
                store(matrix, other, column, total_of_other)

    return cast("Callable[..., None]", add_product)


_add_product_k = _product_adder(vector_ops(CLASS_LANES), CLASS_LANES)
_add_product_h = _product_adder(vector_ops(HIDDEN_LANES), HIDDEN_LANES)


@njit
def _prefetch_image(words: Any, starts: Any, image: Any) -> None:
    for w in range(starts[image], starts[image + np.uint64(1)] + 7, 8):  # a cache line is eight words
        prefetch(words, w)


def train_kernel(
    model: Any,
    words: Any,
    starts: Any,
    labels: Any,
    rows: Any,
    offsets: Any,
    x: Any,
    targets: Any,
    rates: Any,
    with_cross_entropy: bool,
    with_relu: bool,
) -> None:
    """Train one model in place for S steps.

    Args:
        model: A `Padded` model.
        words: Nonzero pixels of all images, packed as in `mnist_bp.engines.pixel_words`, uint64.
        starts: Index of each image's first word, shape (N + 1,), uint32.
        labels: Shape (N,), uint8.
        rows: Row numbers of each step's examples, shape (S, B), int64.
        offsets: How far each of them is moved, shape (S, B), int32; see `mnist_bp.engines.interface.Batches`.
        x: The pixel in [0, 1] for each byte, shape (1, 256).
        targets: One-hot rows, shape (K, K_).
        rates: Shape (S, 2): minus the learning rate, and the additional factor of the bias gradients (1 or 1 / B).
        with_cross_entropy: Whether (1') replaces (1).
        with_relu: Whether (5') replaces (5).
    """
    steps, batch_size = rows.shape
    D, K = _input_count(model), model.W2_T.shape[0]
    H_, K_ = model.b1.shape[1], model.W2.shape[1]
    a1 = np.empty((batch_size, H_), x.dtype)
    # Gradients are linear in dz2: with minus the learning rate multiplied in there, each one is the update itself.
    dz1, dz2 = np.empty_like(a1), np.empty((batch_size, K_), x.dtype)
    control = read_control()
    write_control(control | _FLUSH)  # nothing raises from here on; out of memory, np.empty does
    for block in range(0, H_, HIDDEN_LANES):  # a1 = sigmoid(x W1 + b1) of the first step
        _hidden_of_step(model, words, starts, rows, offsets, 0, x, a1, block, D, with_relu)
    for step in range(steps):
        for i in range(batch_size):
            if step + PREFETCH_STEPS < steps:
                _prefetch_image(words, starts, np.uint64(rows[step + PREFETCH_STEPS, i]))
            if step + PREFETCH_STEPS + 1 < steps:
                prefetch(starts, np.uint64(rows[step + PREFETCH_STEPS + 1, i]))
        for i in range(0, batch_size, 2):  # (1) dz2 = (a2 - t) * a2 * (1 - a2)  (1') dz2 = a2 - t
            j = min(i + 1, batch_size - 1)  # of an odd number, the last example is computed twice
            label_i, label_j = labels[np.uint64(rows[step, i])], labels[np.uint64(rows[step, j])]
            for block in range(0, K_, CLASS_LANES):
                rate = broadcast_k(rates, step, 0)
                a2_i, a2_j = _two_predicted(model, a1, i, j, block)
                dz2_i = _output_gradient(model, a2_i, targets, label_i, block, with_cross_entropy)
                dz2_j = _output_gradient(model, a2_j, targets, label_j, block, with_cross_entropy)
                store(dz2, i, block, dz2_i * rate)
                store(dz2, j, block, dz2_j * rate)
        for i in range(batch_size):  # (4) da1 = dz2 W2^T  (5) dz1 = da1 * a1 * (1 - a1)  (5') dz1 = da1 * [a1 > 0]
            for block in range(0, H_, HIDDEN_LANES):
                da1 = zeros_h(x)
                for k in range(K):
                    da1 = fma(broadcast_h(dz2, i, k), load_h(model.W2_T, k, block), da1)
                activation = load_h(a1, i, block)
                if with_relu:
                    store(dz1, i, block, only_where_positive(da1, activation))
                else:
                    store(dz1, i, block, da1 * activation * (load_h(model.hidden_mask, 0, block) - activation))
        _add_product_k(model.W2, a1, dz2)  # (2) dW2 = a1^T dz2
        _add_product_h(model.W2_T, dz2, a1)  # the same update of W2_T
        for block in range(0, K_, CLASS_LANES):  # (3) db2 = dz2, reduced over the batch
            total = zeros_k(x)
            for i in range(batch_size):
                total = total + load_k(dz2, i, block)
            store(model.b2, 0, block, fma(total, broadcast_k(rates, step, 1), load_k(model.b2, 0, block)))
        for block in range(0, H_, HIDDEN_LANES):  # (7) db1 = dz1, reduced over the batch
            total = zeros_h(x)
            for i in range(batch_size):
                total = total + load_h(dz1, i, block)
            store(model.b1, 0, block, fma(total, broadcast_h(rates, step, 1), load_h(model.b1, 0, block)))
        for block in range(0, H_, HIDDEN_LANES):  # (6) dW1 = x^T dz1, and a1 of the next step
            for i in range(batch_size):
                image = np.uint64(rows[step, i])
                first, last = starts[image], starts[image + _ONE]
                _add_outer(model.W1, words, first, last, x, dz1, i, block, D, offsets[step, i])
            _hidden_of_step(model, words, starts, rows, offsets, step + 1, x, a1, block, D, with_relu)
    write_control(control)


@njit
def _add_outer(
    W1: Any, words: Any, first: int, last: int, x: Any, dz1: Any, i: int, block: int, D: Any, offset: int
) -> None:
    """Add x[p] * dz1 to the row of every pixel p of one image, for one block of hidden units."""
    change = load_h(dz1, i, block)
    row = _first_row(block, D, offset)
    for w in range(first, last):
        word = words[w]
        for place in range(4):
            distance, value = _pixel(word, place)
            row += distance
            store(W1, 0, row, fma(broadcast_h(x, 0, value), change, load_h(W1, 0, row)))


def predict_kernel(model: Any, words: Any, starts: Any, x: Any, a2: Any, with_relu: bool) -> None:
    """Predict every image.

    Args:
        model: A `Padded` model.
        words: See `train_kernel`.
        starts: See `train_kernel`.
        x: The pixel for each byte, shape (1, 256).
        a2: Receives the predictions, shape (N, K_).
        with_relu: Whether the hidden units are ReLUs.
    """
    D, a1 = _input_count(model), np.empty((PREDICT_BLOCK, model.b1.shape[1]), x.dtype)
    control = read_control()
    write_control(control | _FLUSH)
    for first in range(0, len(a2), PREDICT_BLOCK):
        count = min(PREDICT_BLOCK, len(a2) - first)
        for block in range(0, a1.shape[1], HIDDEN_LANES):
            for i in range(count):
                _hidden(model, words, starts[first + i], starts[first + i + 1], x, a1, i, block, D, 0, with_relu)
        for i in range(0, count, 2):
            j = min(i + 1, count - 1)
            for block in range(0, a2.shape[1], CLASS_LANES):
                a2_i, a2_j = _two_predicted(model, a1, i, j, block)
                store(a2, first + i, block, a2_i)
                store(a2, first + j, block, a2_j)
    write_control(control)


class CompiledKernels(NamedTuple):
    """The kernels compiled to machine code."""

    train: Callable[..., None]
    predict: Callable[..., None]


@lru_cache
def compiled_kernels(dtype: str) -> CompiledKernels:
    """Compile the kernels for a precision, or load them from the cache.

    Args:
        dtype: `float32` or `float64`.
    """
    return CompiledKernels(*compile_cached(dtype, *kernel_signatures(dtype)))


def kernel_signatures(dtype: str) -> tuple[tuple[Callable[..., None], tuple[Any, ...]], ...]:
    """Return the kernels and the numba types of their arguments, in the order of `CompiledKernels`."""
    matrix = types.Array(from_dtype(np.dtype(dtype)), 2, "C")
    model = types.NamedUniTuple(matrix, len(Padded._fields), Padded)
    words, starts, labels = _read_only(types.uint64, 1), _read_only(types.uint32, 1), _read_only(types.uint8, 1)
    rows, offsets = _read_only(types.int64, 2), _read_only(types.int32, 2)
    forms = types.boolean, types.boolean
    return (
        (train_kernel, (model, words, starts, labels, rows, offsets, matrix, matrix, matrix, *forms)),
        (predict_kernel, (model, words, starts, matrix, matrix, types.boolean)),
    )


def _read_only(dtype: Any, dimensions: int) -> Any:
    """Return the type of an array that a kernel only reads: it may be of memory that other processes share."""
    return types.Array(dtype, dimensions, "C", readonly=True)
