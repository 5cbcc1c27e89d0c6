"""The step driver: a generated Python function compiled by Numba's front end, calling the kernels through intrinsics.

Imported only when something is compiled: a warm start never loads Numba.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import compiler, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from layerflow.jit.repeated import DATA_FIELD

I64 = ir.IntType(64)
POINTER = I64.as_pointer()


def _call(name: str, arguments: int) -> Callable:
    """An intrinsic that calls the external function `void name(i64, ...)`."""

    def typed(signature: tuple) -> tuple:
        def codegen(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
            known = builder.module.globals.get(name)
            function = known or ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [I64] * arguments), name)
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(*signature), codegen

    # Numba wants a function of exactly as many parameters as the call has arguments.
    match arguments:
        case 3:
            return intrinsic(lambda typingctx, a, b, c: typed((types.int64,) * 3))
        case _:
            raise ValueError(arguments)


@intrinsic
def integer(typingctx, ctx, slot):
    def codegen(context, builder, sig, values):
        at = builder.gep(builder.inttoptr(values[0], POINTER), [values[1]], source_etype=I64)
        return builder.load(at, typ=I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def cut(typingctx, units, at, threads):
    """units * at // threads of numbers that are not negative: where the share of thread `at` begins."""

    def codegen(context, builder, sig, values):
        return builder.udiv(builder.mul(values[0], values[1]), values[2])

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def turn(typingctx, tid, by, threads):
    """(tid + by) % threads."""

    def codegen(context, builder, sig, values):
        return builder.urem(builder.add(values[0], values[1]), values[2])

    return types.int64(types.int64, types.int64, types.int64), codegen


def compile_driver(source: str, kernels: Sequence[str]) -> str:
    """LLVM IR of the driver: `void lf_step(i64 ctx, i64 tid, i64 threads)`, which calls the kernels as externals."""
    names: dict[str, Any] = {name: _call(name, 3) for name in kernels}
    names.update(integer=integer, cut=cut, turn=turn, barrier=_call("lf_barrier", 3))
    exec(compile(source, "<layerflow driver>", "exec"), names)
    flags: Any = compiler.Flags()
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.nrt = False
    flags.error_model = "numpy"
    flags.release_gil = True
    flags.no_compile = True
    # Numba's own execution engine must not see this module: it would look for the kernels and end the process.
    target: Any = cpu_target.target_context
    context = target.with_aot_codegen("layerflow")
    result = compiler.compile_extra(
        cpu_target.typing_context, context, names["step"], (types.int64,) * 3, types.void, flags, {}
    )
    text = result.library.get_llvm_str()
    mangled = re.search(r"define [^@]*@([\w.$]+)\(ptr", text)
    assert mangled is not None
    # The entry has a plain signature: Numba's own returns a status that this driver, which raises nothing, leaves at 0.
    declared, before, after = _flush_denormals(platform.machine().lower())
    return (
        f"{text}\n{declared}define void @lf_step(i64 %ctx, i64 %tid, i64 %threads) {{\n"
        f"  %result = alloca ptr\n  %info = alloca ptr\n{before}"
        f"  %status = call i32 @{mangled.group(1)}(ptr %result, ptr %info, i64 %ctx, i64 %tid, i64 %threads)\n"
        f"{after}  ret void\n}}\n{_again()}"
    )


def _again() -> str:
    """`void lf_again(ptr words, ptr a, ptr b)`: a step on one thread with the data of two array objects.

    The words are the context table and the slots there for the addresses of their data, which are read from the objects
    (`layerflow.jit.repeated.FIELDS` says where that is possible).
    """
    put = "".join(
        f"  %{n}.at = getelementptr i64, ptr %words, i64 {at}\n  %{n}.slot = load i64, ptr %{n}.at\n"
        f"  %{n}.field = getelementptr i8, ptr %{n}, i64 {DATA_FIELD}\n  %{n}.data = load i64, ptr %{n}.field\n"
        f"  %{n}.place = getelementptr i64, ptr %table, i64 %{n}.slot\n  store i64 %{n}.data, ptr %{n}.place\n"
        for at, n in enumerate("ab", 1)
    )
    return (
        "define void @lf_again(ptr %words, ptr %a, ptr %b) {\n"
        f"  %ctx = load i64, ptr %words\n  %table = inttoptr i64 %ctx to ptr\n{put}"
        "  call void @lf_step(i64 %ctx, i64 0, i64 1)\n  ret void\n}\n"
    )


def _flush_denormals(architecture: str) -> tuple[str, str, str]:
    """Declarations, and instructions that make denormal numbers zero during a step and put the thread's mode back.

    An optimizer's averages of vanished gradients decay into denormals, on which arithmetic is a hundred times slower.
    """
    if architecture not in ("x86_64", "amd64"):
        return "", "", ""
    before = (
        "  %old = alloca i32\n  %new = alloca i32\n"
        "  call void @llvm.x86.sse.stmxcsr(ptr %old)\n  %mode = load i32, ptr %old\n"
        "  %flush = or i32 %mode, 32832\n  store i32 %flush, ptr %new\n"
        "  call void @llvm.x86.sse.ldmxcsr(ptr %new)\n"
    )
    declared = "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n"
    return declared, before, "  call void @llvm.x86.sse.ldmxcsr(ptr %old)\n"
