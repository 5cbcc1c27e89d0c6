"""The step driver: a generated Python function compiled by Numba's front end, calling the kernels through intrinsics.

Imported only when something is compiled: a warm start never loads Numba.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import compiler, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

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
    """LLVM IR of the driver: a function `void lf_step(i64 ctx, i64 tid, i64 threads)` that calls the kernels as externals."""
    names: dict[str, Any] = {name: _call(name, 3) for name in kernels}
    names.update(integer=integer, cut=cut, turn=turn, barrier=_call("lf_barrier", 3))
    exec(compile(source, "<layerflow driver>", "exec"), names)
    flags = compiler.Flags()
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.nrt = False
    flags.error_model = "numpy"
    flags.release_gil = True
    flags.no_compile = True
    # Numba's own execution engine must not see this module: it would look for the kernels and end the process.
    context = cpu_target.target_context.with_aot_codegen("layerflow")
    result = compiler.compile_extra(cpu_target.typing_context, context, names["step"], (types.int64,) * 3, types.void, flags, {})
    text = result.library.get_llvm_str()
    mangled = re.search(r"define [^@]*@([\w.$]+)\(ptr", text)
    assert mangled is not None
    # The entry has a plain signature: Numba's own returns a status that this driver, which raises nothing, leaves at 0.
    return text + (
        "\ndefine void @lf_step(i64 %ctx, i64 %tid, i64 %threads) {\n"
        "  %result = alloca ptr\n  %info = alloca ptr\n"
        f"  %status = call i32 @{mangled.group(1)}(ptr %result, ptr %info, i64 %ctx, i64 %tid, i64 %threads)\n"
        "  ret void\n}\n"
    )
