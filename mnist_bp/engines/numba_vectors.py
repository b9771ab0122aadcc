"""A vector type for numba: a fixed number of lanes that stay in registers, on any processor.

numba alone keeps an accumulator of 32 numbers in memory, and most of the time is spent storing and loading it around
every multiplication. Here the accumulator is one LLVM value, which LLVM maps to the registers of the processor: 32
lanes of float32 to two AVX-512 registers, four of AVX2, eight of SSE2 or of NEON on arm64. The code below names no
instruction of any processor, so it needs no porting.

    load, broadcast, zeros = vector_ops(32)      for compiled code only:

    load(array, row, column)        lanes of a C-contiguous 2-D array, from [row, column] on
    broadcast(array, row, column)   one element in every lane
    zeros(array)                    zero in every lane, in the array's dtype
    store(array, row, column, v)    the lanes to memory
    v + w, v - w, v * w             lane by lane
    fma(v, w, u)                    v * w + u, rounded once if the processor can
    sigmoid(v)                      1 / (1 + exp(-v))
    relu(v)                         max(v, 0); NaN stays NaN
    only_where_positive(v, w)       v where w > 0, otherwise 0
    prefetch(array, index)          starts loading an element of a 1-D array into the cache

Indices are not checked: an index outside the array corrupts memory, as in C.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import models, overload, register_model

Intrinsic = Callable[..., Any]
intrinsic: Callable[[Intrinsic], Intrinsic] = numba_intrinsic  # called by compiled code alone, so any type does


class Vector(types.Type):
    """The numba type of a vector.

    Args:
        scalar: float32 or float64.
        lanes: Number of lanes.
    """

    def __init__(self, scalar: types.Float, lanes: int) -> None:
        self.scalar, self.lanes = scalar, lanes
        super().__init__(name=f"Vector({scalar}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        scalar = manager.lookup(vector.scalar).get_value_type()
        super().__init__(manager, vector, ir.VectorType(scalar, vector.lanes))


class VectorOps(NamedTuple):
    """The functions that make vectors of one length."""

    load: Intrinsic
    broadcast: Intrinsic
    zeros: Intrinsic


def vector_ops(lanes: int) -> VectorOps:
    """Return the functions that make vectors of a length, for use in compiled code.

    Args:
        lanes: A power of two.
    """

    @intrinsic
    def load(_context: Any, array: Any, _row: Any, _column: Any) -> Any:
        vector = Vector(array.dtype, lanes)

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args, context.get_value_type(vector))
            return builder.load(address, align=array.dtype.bitwidth // 8)

        return vector(array, types.intp, types.intp), build

    @intrinsic
    def broadcast(_context: Any, array: Any, _row: Any, _column: Any) -> Any:
        vector = Vector(array.dtype, lanes)

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = context.get_value_type(vector)
            element = builder.load(_address(context, builder, signature.args[0], args, kind.element))
            first = builder.insert_element(ir.Constant(kind, ir.Undefined), element, _i32(0))
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), everywhere)

        return vector(array, types.intp, types.intp), build

    @intrinsic
    def zeros(_context: Any, array: Any) -> Any:
        vector = Vector(array.dtype, lanes)
        return vector(array), lambda context, *_: _zeros(context, vector)

    return VectorOps(load, broadcast, zeros)


@intrinsic
def store(_context: Any, array: Any, _row: Any, _column: Any, vector: Any) -> Any:
    """Store the lanes in a C-contiguous 2-D array, from [row, column] on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args, context.get_value_type(vector))
        builder.store(args[3], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), build


@intrinsic
def fma(_context: Any, first: Any, _second: Any, _third: Any) -> Any:
    """Multiply the first two vectors and add the third, lane by lane."""
    return first(first, first, first), lambda _c, builder, _s, args: _call(builder, "fmuladd", *args)


@intrinsic
def prefetch(_context: Any, array: Any, _index: Any) -> Any:
    """Start loading an element of a 1-D array into the L2 cache; the L1 cache is left to the weights."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, *[ir.IntType(32)] * 3])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, _i32(0), _i32(2), _i32(1)])  # for reading, into L2, data
        return context.get_dummy_value()

    return types.void(array, types.intp), build


@intrinsic
def sigmoid(_context: Any, vector: Any) -> Any:
    """Compute 1 / (1 + exp(-z)) to within 3 units in the last place in float32, a few in float64; NaN stays NaN.

    exp(x) = 2**n exp(r), with n = round(x / ln 2) and r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2], where a Taylor
    polynomial is exact up to rounding. x is clamped to the range in which 2**n is a normal number.

    Source: the usual range reduction with ln 2 in two parts (W. J. Cody and W. Waite, Software Manual for the
    Elementary Functions, 1980).
    """
    # bits of the mantissa, bias of the exponent, clamp, degree, and bits of ln 2, few enough that n * ln 2 is exact
    of_float32, of_float64 = (23, 127, 87.0, 7, 9), (52, 1023, 708.0, 13, 20)
    mantissa, bias, limit_x, degree, bits_ln2 = of_float32 if vector.scalar.bitwidth == 32 else of_float64
    ln2 = round(math.log(2) * 2**bits_ln2) / 2**bits_ln2
    ln2_rest = math.log(2) - ln2

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = context.get_value_type(vector)
        bits = ir.VectorType(ir.IntType(vector.scalar.bitwidth), vector.lanes)

        def all_lanes(value: float) -> ir.Constant:
            return ir.Constant(kind, [value] * vector.lanes)

        def all_bits(value: int) -> ir.Constant:
            return ir.Constant(bits, [value] * vector.lanes)

        x = builder.fneg(args[0])
        for sign, limit in ((">", all_lanes(limit_x)), ("<", all_lanes(-limit_x))):
            x = builder.select(builder.fcmp_ordered(sign, x, limit), limit, x)  # ordered comparison: NaN is kept
        # adding 1.5 * 2**mantissa rounds to an integer, which is then in the low bits
        rounder = all_lanes(1.5 * 2.0**mantissa)
        rounded = _call(builder, "fmuladd", x, all_lanes(1 / math.log(2)), rounder)
        n = builder.fsub(rounded, rounder)
        r = _call(builder, "fmuladd", n, all_lanes(-ln2), x)
        r = _call(builder, "fmuladd", n, all_lanes(-ln2_rest), r)
        exp_r = all_lanes(1 / math.factorial(degree))
        for power in reversed(range(degree)):
            exp_r = _call(builder, "fmuladd", exp_r, r, all_lanes(1 / math.factorial(power)))
        exponent = builder.shl(builder.add(builder.bitcast(rounded, bits), all_bits(bias)), all_bits(mantissa))
        exp_x = builder.fmul(exp_r, builder.bitcast(exponent, kind))
        return builder.fdiv(all_lanes(1.0), builder.fadd(all_lanes(1.0), exp_x))

    return vector(vector), build


@intrinsic
def relu(_context: Any, vector: Any) -> Any:
    """Compute max(z, 0); NaN stays NaN."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zero = _zeros(context, vector)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return vector(vector), build


@intrinsic
def only_where_positive(_context: Any, vector: Any, _other: Any) -> Any:
    """Return the first vector where the second is greater than 0, and 0 elsewhere."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zero = _zeros(context, vector)
        return builder.select(builder.fcmp_ordered(">", args[1], zero), args[0], zero)

    return vector(vector, vector), build


def _zeros(context: Any, vector: Any) -> ir.Constant:
    return ir.Constant(context.get_value_type(vector), [0.0] * vector.lanes)


def _binary(name: str) -> Intrinsic:
    @intrinsic
    def operation(_context: Any, first: Any, _second: Any) -> Any:
        return first(first, first), lambda _c, builder, _s, args: getattr(builder, name)(*args)

    return operation


def _define(symbol: Callable[[Any, Any], Any], operation: Intrinsic) -> None:
    def call(first: Any, second: Any) -> Any:
        return operation(first, second)

    @overload(symbol)
    def _(first: Any, second: Any) -> Any:
        return call if isinstance(first, Vector) and first == second else None


for _symbol, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_symbol, _binary(_name))


def _call(builder: Any, name: str, *args: Any) -> Any:
    """Call an LLVM intrinsic whose result has the type of its arguments."""
    kind = args[0].type
    suffix = f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(args)), f"llvm.{name}.{suffix}"
    )
    return builder.call(function, args)


def _address(context: Any, builder: Any, array: Any, args: Any, kind: Any) -> Any:
    """Return the address of [row, column] of a C-contiguous 2-D array, as a pointer to `kind`."""
    view = context.make_array(array)(context, builder, args[0])
    width = cgutils.unpack_tuple(builder, view.shape)[1]
    index = builder.add(builder.mul(args[1], width), args[2])
    return builder.bitcast(builder.gep(view.data, [index], inbounds=True), kind.as_pointer())


def _i32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)
