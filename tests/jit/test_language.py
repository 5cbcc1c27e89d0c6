"""The kernel language does what Python and NumPy would do."""

import re

import numpy as np
import pytest
from jit.kernels import Compiled, apply

from layerflow.errors import CompileError
from layerflow.jit import language, native, target

F = np.float32
RNG = np.random.default_rng(0)
AVAILABLE = [
    n for n in ("generic", "avx2", "avx512") if n == "generic" or target.host().vector_bytes >= 32 * (n[3:] != "2") + 32
]


def floats(n: int = 37) -> np.ndarray:
    return RNG.normal(size=n).astype(F)


def lower(body: str) -> str:
    lines = "\n".join("    " + line for line in body.strip().split("\n"))
    return language.lower(f"def k(ctx, lo, hi):\n    lanes(16)\n{lines}\n", target.host())


CASES = [
    ("v0 + v1 * 2", lambda a, b: a + b * F(2)),
    ("(v0 - 0.5) / v1", lambda a, b: (a - F(0.5)) / b),
    ("-v0", lambda a, b: -a),
    ("maximum(v0, v1)", np.maximum),
    ("minimum(v0, 0.25)", lambda a, b: np.minimum(a, F(0.25))),
    ("where(v0 < v1, v0, 1.0)", lambda a, b: np.where(a < b, a, F(1))),
    ("v0 if v1 > 0.0 else v1", lambda a, b: np.where(b > 0, a, b)),
    ("where((v0 > 0) & ~(v1 > 0), 1.0, v1)", lambda a, b: np.where((a > 0) & ~(b > 0), F(1), b)),
    ("where((v0 > 0) or (v1 > 0), v0, v1)", lambda a, b: np.where((a > 0) | (b > 0), a, b)),
    ("abs(v0) + sign(v1)", lambda a, b: np.abs(a) + np.sign(b)),
    ("floor(v0) + ceil(v1)", lambda a, b: np.floor(a) + np.ceil(b)),
    ("rint(v0 * 3) - trunc(v1)", lambda a, b: np.rint(a * F(3)) - np.trunc(b)),
    ("copysign(v0, v1)", np.copysign),
    ("clip(v0, -0.5, 0.5)", lambda a, b: np.clip(a, F(-0.5), F(0.5))),
    ("cast(cast(v0 * 10, i32), f32)", lambda a, b: (a * F(10)).astype(np.int32).astype(F)),
    ("bitcast(bitcast(v0, u32) ^ bitcast(v1, u32), f32)", lambda a, b: (a.view("u4") ^ b.view("u4")).view(F)),
    ("cast(v0 > v1, f32)", lambda a, b: (a > b).astype(F)),
]


@pytest.mark.parametrize("lanes", [16, 1])
@pytest.mark.parametrize(("text", "expected"), CASES, ids=[c[0] for c in CASES])
def test_expression(text, expected, lanes):
    a, b = floats(), floats()
    np.testing.assert_array_equal(apply(text, a, b, lanes=lanes), expected(a, b))


@pytest.mark.parametrize("name", AVAILABLE)
def test_every_target_gives_the_same(name):
    on = target.named(name)
    a, b = floats(), floats()
    got = apply("where(v0 < v1, sqrt(abs(v0)), v1 * 2 + 1)", a, b, lanes=on.vector_bytes // 4, on=on)
    np.testing.assert_array_equal(got, np.where(a < b, np.sqrt(np.abs(a)), b * F(2) + F(1)))


@pytest.mark.parametrize("name", AVAILABLE)
def test_compress_moves_the_lanes_with_a_flag_to_the_front(name):
    on = target.named(name)
    lanes = on.vector_bytes // 4
    source = f"def k(ctx, lo, hi):\n lanes({lanes})\n p = pointer(ctx, 0, f32)\n q = pointer(ctx, 1, f32)\n"
    source += " r = pointer(ctx, 2, i64)\n n = 0\n"
    source += f" for i in range(lo, hi, {lanes}):\n  v = load(p, i, hi - i)\n  keep = v != 0\n"
    source += "  store(q, n, compress(v, keep))\n  n = n + count_set(keep)\n r[0] = n\n"
    x = np.where(np.random.default_rng(0).random(103) < 0.5, 0, floats(103)).astype(F)
    x[5:7] = np.nan, -0.0
    found, count = np.zeros(120, F), np.zeros(1, np.int64)
    Compiled(source, on)("k", x, found, count, hi=103)
    assert count[0] == np.count_nonzero(x)
    np.testing.assert_array_equal(found[: count[0]], x[x != 0])


def test_nan_passes_maximum_and_minimum():
    a, b = np.array([np.nan, 1, np.nan, 2], F), np.array([1, np.nan, np.nan, 3], F)
    np.testing.assert_array_equal(apply("maximum(v0, v1)", a, b), np.maximum(a, b))
    np.testing.assert_array_equal(apply("minimum(v0, v1)", a, b), np.minimum(a, b))
    np.testing.assert_array_equal(apply("maximum(v0, 0.0)", a), np.maximum(a, F(0)))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("op", ["+", "-", "*", "//", "%", "&", "|", "^"])
def test_integers_as_numpy(dtype, op):
    low = 0 if dtype[0] == "u" else -100
    a = RNG.integers(low, 100, 67).astype(dtype)
    b = RNG.integers(low, 12, 67).astype(dtype)
    b[:3] = 0, 1, max(low, -1)
    with np.errstate(all="ignore"):
        expected = eval(f"a {op} b")
    np.testing.assert_array_equal(apply(f"v0 {op} v1", a, b, lanes=8), expected)


def test_smallest_integer_by_minus_one_does_not_trap():
    a, b = np.full(4, np.iinfo("i4").min, "i4"), np.full(4, -1, "i4")
    np.testing.assert_array_equal(apply("v0 // v1", a, b), a)
    np.testing.assert_array_equal(apply("v0 % v1", a, b), 0 * a)


@pytest.mark.parametrize("divisor", [1, 3, 4, 7, 16])
def test_scalar_division_floors(divisor):
    out = np.zeros(40, np.int64)
    code = Compiled(
        f"def k(ctx, lo, hi):\n y = pointer(ctx, 0, i64)\n for i in range(lo, hi):\n"
        f"  y[2 * i] = (i - 10) // {divisor}\n  y[2 * i + 1] = (i - 10) % {divisor}\n"
    )
    code("k", out, hi=20)
    i = np.arange(20) - 10
    np.testing.assert_array_equal(out.reshape(20, 2), np.stack([i // divisor, i % divisor], 1))


@pytest.mark.parametrize("count", [-3, 0, 1, 9, 16, 40, 2**40])
def test_count_of_masked_access(count):
    x, out = floats(16), np.full(16, 7, F)
    source = (
        "def k(ctx, lo, hi):\n lanes(16)\n n = integer(ctx, 2)\n p = pointer(ctx, 0, f32)\n q = pointer(ctx, 1, f32)\n"
    )
    Compiled(source + " store(q, 0, load(p, 0, n) + 1.0, n)\n")("k", x, out, count)
    n = min(16, max(0, count))
    np.testing.assert_array_equal(out, np.concatenate([x[:n] + F(1), np.full(16 - n, 7, F)]))


def test_masked_lanes_are_zero_and_memory_beyond_is_not_touched():
    out = np.zeros(16, F)
    source = "def k(ctx, lo, hi):\n lanes(16)\n p = pointer(ctx, 0, f32)\n q = pointer(ctx, 1, f32)\n"
    Compiled(source + " store(q, 0, load(p, 0, 5))\n")("k", np.ones(16, F), out)
    np.testing.assert_array_equal(out, np.r_[np.ones(5), np.zeros(11)])


FLOW = """
def k(ctx, lo, hi):
    lanes(16)
    y = pointer(ctx, 0, i64)
    total = 0
    odd = 0
    for i in range(lo, hi):
        if i % 2 == 1:
            odd += 1
            total = total + i
        elif i > 6:
            total = total + 100
        n = i
        while n > 1:
            n = n // 2
            total += 1000
    y[0] = total
    y[1] = odd
"""


def test_control_flow():
    total = odd = 0
    for i in range(11):
        if i % 2 == 1:
            odd += 1
            total += i
        elif i > 6:
            total += 100
        n = i
        while n > 1:
            n //= 2
            total += 1000
    out = np.zeros(2, np.int64)
    Compiled(FLOW)("k", out, hi=11)
    assert out.tolist() == [total, odd]


TILE = """
def k(ctx, lo, hi):
    lanes(8)
    x = pointer(ctx, 0, f32)
    w = pointer(ctx, 1, f32)
    y = pointer(ctx, 2, f32)
    for t in range(lo, hi):
        for m in static(3):
            for n in static(2):
                acc[m, n] = zeros(f32)
        for k in range(0, 20, 4):
            for u in static(4):
                for n in static(2):
                    b[n] = load(w, (k + u) * 16 + 8 * n)
                for m in static(3):
                    a = splat(x[(t * 3 + m) * 20 + k + u])
                    for n in static(2):
                        acc[m, n] = fma(a, b[n], acc[m, n])
        for m in static(3):
            for n in static(2):
                store(y, (t * 3 + m) * 16 + 8 * n, acc[m, n])
"""


def test_unrolled_tile():
    x, w, y = RNG.normal(size=(12, 20)).astype(F), RNG.normal(size=(20, 16)).astype(F), np.zeros((12, 16), F)
    Compiled(TILE)("k", x, w, y, hi=4)
    np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-5)


def test_constant_offsets_become_displacements():
    text = lower("x = pointer(ctx, 0, f32)\nfor i in range(lo, hi):\n    x[i * 8 + 3] = x[i * 8 + 1] + x[i * 8 + 2]")
    assert text.count("mul i64") == 1
    assert [int(n) for n in re.findall(r"getelementptr i8, ptr %\w+, i64 (\d+)", text)] == [4, 8, 12]


def test_folds_of_a_vector():
    x, out = floats(16), np.zeros(4, F)
    source = "def k(ctx, lo, hi):\n lanes(16)\n p = pointer(ctx, 0, f32)\n q = pointer(ctx, 1, f32)\n v = load(p, 0)\n"
    source += " q[0] = reduce_add(v)\n q[1] = reduce_max(v)\n q[2] = reduce_min(v)\n q[3] = reduce_mul(v)\n"
    Compiled(source)("k", x, out)
    np.testing.assert_allclose(out, [x.sum(), x.max(), x.min(), x.prod()], rtol=1e-5)


def test_shuffle_gather_insert_extract():
    x, out = floats(32), np.zeros(33, F)
    source = "def k(ctx, lo, hi):\n lanes(8)\n p = pointer(ctx, 0, f32)\n q = pointer(ctx, 1, f32)\n v = load(p, 0)\n"
    source += (
        " store(q, 0, shuffle(v, load(p, 8), (0, 8, 1, 9, 2, 10, 3, 11)))\n store(q, 8, gather(p, iota(i64) * 4))\n"
    )
    source += (
        " store(q, 16, insert(v, 2, f32(5)))\n q[24] = extract(v, 7)\n store(q, 25, gather(p, iota(i32) * 4, 3))\n"
    )
    Compiled(source)("k", x, out)
    np.testing.assert_array_equal(out[:8], np.stack([x[:4], x[8:12]], 1).ravel())
    np.testing.assert_array_equal(out[8:16], x[::4])
    np.testing.assert_array_equal(out[16:24], np.r_[x[:2], 5, x[3:8]].astype(F))
    assert out[24] == x[7]
    np.testing.assert_array_equal(out[25:33], np.r_[x[:12:4], np.zeros(5)].astype(F))


def test_inline_functions_return_several_values():
    out = np.zeros(2, F)
    source = "def both(a, b):\n inline()\n return a + b, a - b\n"
    source += "def k(ctx, lo, hi):\n p = pointer(ctx, 0, f32)\n s, d = both(f32(3), 1.0)\n p[0] = s\n p[1] = d\n"
    Compiled(source)("k", out)
    assert out.tolist() == [4, 2]


def test_no_double_in_single_precision_code():
    text = native.asm_text([lower("p = pointer(ctx, 0, f32)\nstore(p, 0, tanh(load(p, 0)) + 0.1)")], name="k")
    assert "zmm" in text or target.host().vector_bytes < 64
    assert not re.search(r"\bv?(add|sub|mul|div|sqrt|cvt\w*|fn?m(add|sub)\d+)[ps]d\b", text)


ERRORS = [
    ("x = y + 1", "unknown name y"),
    ("p = pointer(ctx, 0, f32)\nv = load(p, 0) + iota(i32)", "cast one"),
    ("p = pointer(ctx, 0, f32)\np[0] = i32(1)", "cast it"),
    ("p = pointer(ctx, 0, i32)\nv = load(p, 0) * 0.5", "the number 0.5"),
    ("x = frobnicate(1)", "unknown function frobnicate"),
    ("s = 0.5\nfor i in range(lo, hi):\n    s = s + 1.0", "untyped number"),
    ("for m in static(lo):\n    pass", "known when the code is made"),
    ("x = acc[3]", "has no value yet"),
    ("if load(pointer(ctx, 0, f32), 0) > 0:\n    pass", "scalar comparison"),
]


@pytest.mark.parametrize(("body", "message"), ERRORS, ids=[e[1] for e in ERRORS])
def test_errors_name_function_and_line(body, message):
    with pytest.raises(CompileError, match=rf"k, line \d+: .*{message}"):
        lower(body)
