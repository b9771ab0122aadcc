"""Flush-to-zero for compiled code: numbers too small for a full mantissa (subnormal numbers) are computed as zero.

In a long run, gradients of saturated units become subnormal, and Intel processors take more than 100 cycles for each
operation on such a number: a step that takes 8 us at first takes 60 us after 90,000 steps. Whether they are flushed is
a setting of the thread, in the control register of its floating-point unit, and new threads do not inherit it.
Therefore each kernel sets it, and restores what it found:

    before = read_control()
    write_control(before | FLUSH)
    ...                                nothing here may raise, or the caller would keep the kernel's setting
    write_control(before)

On x86-64 the register is MXCSR, on arm64 FPCR. On other processors the functions do nothing. They are LLVM's intrinsics
for these registers, so no compiler is needed on the machine.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from mnist_bp.engines.numba_vectors import intrinsic


class Register(NamedTuple):
    """The control register of one architecture.

    Args:
        flush: Bits that flush subnormal results and operands.
        read: Emits instructions that read it, and returns an i64.
        write: Emits instructions that write an i64 to it.
    """

    flush: int
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]


_I8P, _I32, _I64, _VOID = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64), ir.VoidType()


def _call(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    """Call an LLVM intrinsic between two barriers, which no load or store is moved across.

    The operations on what was loaded stay with the loads, and the stores with the operations.
    """
    barrier = ir.InlineAsm(ir.FunctionType(_VOID, []), "", "~{memory}", side_effect=True)
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    builder.call(barrier, [])
    found = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)
    builder.call(barrier, [])
    return found


def _read_mxcsr(builder: Any) -> Any:
    slot = cgutils.alloca_once(builder, _I32)  # the instruction writes to memory only
    _call(builder, "llvm.x86.sse.stmxcsr", _VOID, builder.bitcast(slot, _I8P))
    return builder.zext(builder.load(slot), _I64)


def _write_mxcsr(builder: Any, value: Any) -> None:
    slot = cgutils.alloca_once(builder, _I32)
    builder.store(builder.trunc(value, _I32), slot)
    _call(builder, "llvm.x86.sse.ldmxcsr", _VOID, builder.bitcast(slot, _I8P))


def _read_fpcr(builder: Any) -> Any:
    return _call(builder, "llvm.aarch64.get.fpcr", _I64)


def _write_fpcr(builder: Any, value: Any) -> None:
    _call(builder, "llvm.aarch64.set.fpcr", _VOID, value)


MXCSR: Final = Register(flush=1 << 15 | 1 << 6, read=_read_mxcsr, write=_write_mxcsr)  # FTZ: results; DAZ: operands
FPCR: Final = Register(flush=1 << 24, read=_read_fpcr, write=_write_fpcr)  # FZ: both
NONE: Final = Register(flush=0, read=lambda _: ir.Constant(_I64, 0), write=lambda *_: None)

REGISTER: Final = {"x86_64": MXCSR, "amd64": MXCSR, "aarch64": FPCR, "arm64": FPCR}.get(
    platform.machine().lower(), NONE
)
FLUSH: Final = REGISTER.flush


@intrinsic
def read_control(_context: Any) -> Any:
    """Return the control register of this thread's floating-point unit, as uint64; for compiled code only."""
    return types.uint64(), lambda _context, builder, *_: REGISTER.read(builder)


@intrinsic
def write_control(_context: Any, _value: Any) -> Any:
    """Set the control register of this thread's floating-point unit, from uint64; for compiled code only."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        REGISTER.write(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.uint64), build
