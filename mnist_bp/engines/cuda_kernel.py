# Triton's language has no types, and its compiler does not support (*a, b).
# mypy: ignore-errors
# ruff: noqa: RUF005, SIM108
"""The kernel of the CUDA engine: one launch trains M models for S steps, one model per multiprocessor.

A step of this network is too small for a launch: it takes 0.9 million operations, whereas each of the dozen launches
that torch needs takes microseconds. So one program loops over all steps, and its weights stay in registers from the
first step to the last. For the lab's shape (D 784, H 30, K 10, B 10), on 256 threads with 255 registers each, this
requires:

- W1 is a tuple of tiles, each (4, C, HP): 4 pixels by C = 32 groups by 32 hidden units. A thread holds 4 x 4 weights
  of each tile, and a compile-time loop goes through the tuple, so that sums over pixels are chains of fused
  multiply-adds in registers. If W1 were one tensor, Triton would have to reduce it, and spills all of it.
- Pixels are loaded as bytes, four to a 32-bit word, and converted in registers; the factor 1/255 is taken out of both
  sums over pixels. The backward pass loads them again (from the L1 cache), because registers are scarcer.
- Nothing is computed for images beyond B or tiles beyond D: their conditions are constants in each thread, so the
  compiler removes them. It may drop -0.0 from a sum, but not 0.0, because 0.0 + -0.0 is 0.0.
- The sum over threads that completes z1 is written as a product with ones, the only reduction that Triton does in one
  exchange through shared memory (`tl.sum` takes 32 exchanges, with 64 barriers).
- Padded hidden units would output sigmoid(0) = 0.5 and learn, and padded classes would have an error; both are kept
  at 0.

All arithmetic is in the precision of the weights (no TF32), in a fixed order, without atomics.

The speed depends on the layout that Triton chooses for W1, which the code does not state. Therefore a test compiles the
kernel for an H100 or H200 (sm_90), and checks that no registers are spilled.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret
"""Whether Triton was imported with TRITON_INTERPRET=1, so that it runs on the CPU, operation by operation."""


@triton.jit
def probe(number):
    """Add one to a number in place, to check that kernels can be compiled and launched."""
    tl.store(number, tl.load(number) + 1)


@triton.jit
def sigmoid(z):
    """Compute 1 / (1 + exp(-z)), for any shape; 0 or 1 where exp overflows or underflows."""
    return 1 / (1 + tl.exp(-z))


@triton.jit
def words_of(
    images, order, i: tl.constexpr, q: tl.constexpr, C: tl.constexpr, WORDS: tl.constexpr, policy: tl.constexpr
):
    """Load the words of image i of the batch for the tiles of group q, shape (4, C, 1); 0 beyond the image."""
    word = (4 * q + tl.arange(0, 4)[:, None, None]) * C + tl.arange(0, C)[None, :, None]
    row = tl.load(order + i).to(tl.int64)
    return tl.load(images + row * WORDS + word, mask=word < WORDS, other=0, eviction_policy=policy)


@triton.jit
def pixels_of(words, j: tl.constexpr, dtype: tl.constexpr):
    """Return pixel j of each word, in [0, 255]."""
    return ((words >> (8 * j)) & 255).to(dtype)


@triton.jit
def tiled_products(images, order, W1, exists, B: tl.constexpr, BP: tl.constexpr, WORDS: tl.constexpr):
    """Compute 255 x W1 up to the sum over the C groups: shape (BP, C, HP)."""
    C: tl.constexpr = W1[0].shape[1]
    HP: tl.constexpr = W1[0].shape[2]
    b = tl.arange(0, BP)[:, None, None]
    groups = tl.zeros((BP, C, HP), W1[0].dtype)
    for i in tl.static_range(B):
        total = tl.zeros((4, C, HP), W1[0].dtype)
        for q in tl.static_range(len(W1) // 4):
            words = words_of(images, order, i, q, C, WORDS, "evict_last")
            for j in tl.static_range(4):
                x = pixels_of(words, j, W1[0].dtype)  # (4, C, 1)
                total = tl.where(exists[q], total + x * W1[4 * q + j], total)
        groups = tl.where(b == i, tl.sum(total, 0)[None], groups)
    return groups


@triton.jit
def sum_over_groups(groups):
    """Sum (BP, C, HP) over C with a product with ones: (1, C) times (C, BP HP)."""
    BP: tl.constexpr = groups.shape[0]
    C: tl.constexpr = groups.shape[1]
    HP: tl.constexpr = groups.shape[2]
    side_by_side = tl.reshape(tl.permute(groups, (1, 0, 2)), (C, BP * HP))
    return tl.reshape(tl.dot(tl.full((1, C), 1.0, groups.dtype), side_by_side, input_precision="ieee"), (BP, HP))


@triton.jit(do_not_specialize=["steps"])  # any number of steps, one compilation
def train(
    images,
    labels,
    order,
    W1_at,
    b1_at,
    W2_at,
    b2_at,
    rates,
    steps,
    H: tl.constexpr,
    K: tl.constexpr,
    B: tl.constexpr,
    WORDS: tl.constexpr,
    C: tl.constexpr,
    HP: tl.constexpr,
    KP: tl.constexpr,
    BP: tl.constexpr,
    MEAN: tl.constexpr,
    CROSS_ENTROPY: tl.constexpr,
    RELU: tl.constexpr,
):
    """Train model m = program_id(0) for all steps, in place.

    Args:
        images: Shape (N, WORDS), int32: pixel 4 w + j of an image is byte j of its word w.
        labels: Shape (N,), integers.
        order: Row numbers, shape (M, steps, B), int32.
        W1_at: Shape (M, DP, HP), padded with zeros; its dtype is that of the arithmetic. DP is 16 C times the number
            of groups q.
        b1_at: Shape (M, HP); like the next two, of the same dtype and padded with zeros.
        W2_at: Shape (M, HP, KP).
        b2_at: Shape (M, KP).
        rates: The learning rate of each step, shape (M, steps), of that dtype.
        steps: S.
        H: Hidden units.
        K: Classes.
        B: Batch size.
        WORDS: Words per image, D / 4 rounded up.
        C: Groups of pixels that a tile of W1 spans.
        HP: H padded to a power of two.
        KP: K padded to a power of two.
        BP: B padded to a power of two.
        MEAN: Whether the bias gradients are means over the batch instead of sums.
        CROSS_ENTROPY: Whether (1') replaces (1).
        RELU: Whether (5') replaces (5).
    """
    # --- load the weights, once
    m = tl.program_id(0).to(tl.int64)
    dtype: tl.constexpr = W1_at.dtype.element_ty
    TILES: tl.constexpr = (WORDS + C - 1) // C
    GROUPS: tl.constexpr = (TILES + 3) // 4
    h, k, b = tl.arange(0, HP), tl.arange(0, KP), tl.arange(0, BP)
    tile = tl.arange(0, 4)[:, None, None]
    W1_at += m * (GROUPS * 16 * C * HP) + 4 * HP * (tile * C + tl.arange(0, C)[None, :, None]) + h[None, None, :]
    W2_at += m * (HP * KP) + h[:, None] * KP + k[None, :]
    b1_at += m * HP + h
    b2_at += m * KP + k
    order += m * steps * B
    rates += m * steps
    b1, W2, b2 = tl.load(b1_at), tl.load(W2_at), tl.load(b2_at)  # (HP,) (HP, KP) (KP,)
    W1 = ()  # tile 4 q + j: weights of pixel 4 ((4 q + tile) C + c) + j, shape (4, C, HP)
    exists = ()  # which tiles of group q contain pixels, shape (4, 1, 1)
    for q in tl.static_range(GROUPS):
        exists = exists + (4 * q + tile < TILES,)
        for j in tl.static_range(4):
            W1 = W1 + (tl.where(exists[q], tl.load(W1_at + (16 * q * C + j) * HP), 0.0),)

    for _ in range(steps):
        rate = tl.load(rates)
        # --- forward
        groups = tiled_products(images, order, W1, exists, B, BP, WORDS)  # (BP, C, HP)
        z1 = sum_over_groups(groups) / 255 + b1[None, :]  # (BP, HP)  x W1 + b1
        if RELU:
            a1 = tl.where((h[None, :] < H) & (z1 > 0), z1, 0.0)  # (BP, HP)
        else:
            a1 = tl.where(h[None, :] < H, sigmoid(z1), 0.0)  # (BP, HP)
        z2 = tl.dot(a1, W2, input_precision="ieee") + b2[None, :]  # (BP, KP)  a1 W2 + b2
        a2 = sigmoid(z2)  # (BP, KP)
        row = tl.load(order + b, mask=b < B, other=0)
        t = (tl.load(labels + row)[:, None] == k[None, :]).to(dtype)  # (BP, KP)

        # --- backward
        real = (b[:, None] < B) & (k[None, :] < K)
        if CROSS_ENTROPY:
            dz2 = tl.where(real, a2 - t, 0.0)  # (BP, KP)  (1')
        else:
            dz2 = tl.where(real, (a2 - t) * a2 * (1 - a2), 0.0)  # (BP, KP)  (1)
        dW2 = tl.dot(tl.trans(a1), dz2, input_precision="ieee")  # (HP, KP)  (2)
        db2 = tl.sum(dz2, 0)  # (KP,)  (3)
        da1 = tl.dot(dz2, tl.trans(W2), input_precision="ieee")  # (BP, HP)  (4)
        if RELU:
            dz1 = tl.where(a1 > 0, da1, 0.0)  # (BP, HP)  (5')
        else:
            dz1 = da1 * a1 * (1 - a1)  # (BP, HP)  (5)
        db1 = tl.sum(dz1, 0)  # (HP,)  (7)
        if MEAN:
            db1, db2 = db1 / B, db2 / B

        # (6) and its update, tile by tile. `groups` is 0 beyond B; as an operand, it gives dz1 the layout of W1.
        dz1_255 = tl.where(b[:, None, None] < B, (dz1 / 255)[:, None, :], groups)  # (BP, C, HP)
        dz1_of = ()
        for i in tl.static_range(B):
            dz1_of = dz1_of + (tl.sum(tl.where(b[:, None, None] == i, dz1_255, -0.0), 0)[None],)  # (1, C, HP)
        stepped = ()
        for q in tl.static_range(GROUPS):
            words = ()
            for i in tl.static_range(B):
                words = words + (words_of(images, order, i, q, C, WORDS, "evict_first"),)
            for j in tl.static_range(4):
                dW1 = tl.zeros((4, C, HP), dtype)
                for i in tl.static_range(B):
                    dW1 += pixels_of(words[i], j, dtype) * dz1_of[i]  # (4, C, HP)  (6)  x^T dz1
                stepped = stepped + (tl.where(exists[q], W1[4 * q + j] - rate * dW1, 0.0),)

        W1 = stepped
        b1 -= rate * db1
        W2 -= rate * dW2
        b2 -= rate * db2
        order += B
        rates += 1

    # --- store the weights, once
    for q in tl.static_range(GROUPS):
        for j in tl.static_range(4):
            tl.store(W1_at + (16 * q * C + j) * HP, W1[4 * q + j])
    tl.store(b1_at, b1)
    tl.store(W2_at, W2)
    tl.store(b2_at, b2)
