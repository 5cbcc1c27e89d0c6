"""Machine code: loading, errors instead of crashes, and the quality of the tile that everything rests on."""

import re

import numpy as np
import pytest
from jit.kernels import Compiled

from layerflow.errors import CompileError
from layerflow.jit import language, libm, native, target

SOURCE = """
def k(ctx, lo, hi):
    lanes(16)
    y = pointer(ctx, 0, f32)
    for i in range(lo, hi):
        store(y, 16 * i, exp(load(y, 16 * i)))
"""


def ir() -> str:
    return language.lower(SOURCE, target.host())


def test_object_file_loads_again():
    image = native.compile_object([ir()])
    assert image == native.compile_object([ir()])
    first, second = native.load(image), native.load(image)
    assert first.function("k") != second.function("k")


def test_unknown_function():
    with pytest.raises(CompileError, match="no function nothing"):
        native.load(native.compile_object([ir()])).function("nothing")


def test_undefined_symbol_is_an_error_not_a_crash():
    text = "declare void @lf_nowhere()\ndefine void @k() {\n  call void @lf_nowhere()\n  ret void\n}\n"
    image = native.compile_object([text])
    assert native.undefined_symbols(image) == ["lf_nowhere"]
    with pytest.raises(CompileError, match="lf_nowhere"):
        native.load(image)


@pytest.mark.parametrize(
    "damage", [lambda b: b"no object", lambda b: b"", lambda b: b[:40], lambda b: b[: len(b) // 2]]
)
def test_bytes_that_are_no_object_file_are_refused(damage):
    with pytest.raises(CompileError, match="object file"):
        native.load(damage(native.compile_object([ir()])))


@pytest.mark.parametrize("text", ["this is no IR", "define void @k() {\n  ret i32 0\n}\n"])
def test_wrong_ir_is_refused(text):
    with pytest.raises(CompileError, match="LLVM refuses"):
        native.compile_object([text])


def test_modules_are_linked():
    caller = "declare void @k(i64, i64, i64)\ndefine void @twice(i64 %a, i64 %b, i64 %c) {\n"
    caller += "  call void @k(i64 %a, i64 %b, i64 %c)\n" * 2 + "  ret void\n}\n"
    library = native.load(native.compile_object([ir(), caller]))
    assert library.function("twice")


def test_generated_code_calls_no_library():
    texts = libm.texts()
    names = [n for n in texts if texts[n].startswith(f"def {n}(x):") and n != "quadrant"]
    assert "tanh" in names
    body = "\n".join(f"    store(y, 0, {n}(load(y, 0)))" for n in names)
    for dtype in ("f32", "f64"):
        source = f"def k(ctx, lo, hi):\n    lanes(4)\n    y = pointer(ctx, 0, {dtype})\n{body}\n"
        for name in ("generic", "native"):
            on = target.named(name)
            image = native.compile_object([language.lower(source, on)], on)
            assert [n for n in native.undefined_symbols(image) if n != "_GLOBAL_OFFSET_TABLE_"] == []


def test_dumps_of_one_kernel():
    assert "define" in native.llvm_text([ir()], name="k")
    text = native.asm_text([ir()], name="k")
    assert text.startswith("k:")
    assert "ret" in text


def tile(rows: int, vectors: int, lanes: int) -> str:
    width = vectors * lanes
    return f"""
def gemm(ctx, lo, hi):
    lanes({lanes})
    x = pointer(ctx, 0, f32)
    w = pointer(ctx, 1, f32)
    y = pointer(ctx, 2, f32)
    for t in range(lo, hi):
        i = t * {rows}
        for m in static({rows}):
            for n in static({vectors}):
                acc[m, n] = zeros(f32)
        for k in range(0, 784, 4):
            for u in static(4):
                for n in static({vectors}):
                    b[n] = load(w, (k + u) * {width} + {lanes} * n)
                for m in static({rows}):
                    a = splat(x[(i + m) * 784 + k + u])
                    for n in static({vectors}):
                        acc[m, n] = fma(a, b[n], acc[m, n])
        for m in static({rows}):
            for n in static({vectors}):
                store(y, (i + m) * {width} + {lanes} * n, acc[m, n])
"""


@pytest.mark.skipif(target.host().vector_bytes < 64, reason="for 32 registers of 64 bytes")
def test_tile_stays_in_registers():
    text = native.asm_text([language.lower(tile(13, 2, 16), target.host())], name="gemm")
    assert len(re.findall(r"vfmadd231ps\s.*%zmm\d+\n", text)) == 13 * 2 * 4
    assert not [line for line in text.split("\n") if "zmm" in line and "%rsp" in line]


def test_tile_is_right():
    lanes = target.host().lanes("f32")
    x = np.random.default_rng(0).normal(size=(12, 784)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(784, 2 * lanes)).astype(np.float32)
    y = np.zeros((12, 2 * lanes), np.float32)
    Compiled(tile(6, 2, lanes))("gemm", x, w, y, hi=2)
    np.testing.assert_allclose(y, x @ w, rtol=1e-3, atol=1e-3)


def test_targets():
    host = target.host()
    assert host.vector_bytes in (16, 32, 64)
    assert host.lanes("f32") == host.vector_bytes // 4
    assert host.l1_bytes < host.l2_bytes
    assert len({target.named(n).key for n in ("native", "generic")}) == 2
    with pytest.raises(CompileError, match="expected generic"):
        target.named("pentium")
