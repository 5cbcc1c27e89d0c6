"""Mathematical functions in the kernel language: straight-line code that calls no C library.

They take scalars and vectors of f32 and f64 and choose the polynomial by the type.  Right at 0, inf, nan and denormals.
Polynomials of single precision for log, sin, cos, asin are those of Stephen Moshier's Cephes library; those of log and
asin in double precision are of Sun's fdlibm; erf and atan are Chebyshev fits, exp in single precision is a minimax fit
to the relative error of expm1.  Errors: tests/jit/test_libm.py.
"""

from __future__ import annotations

import functools
import re

SOURCE = '''
def exp(x):
    inline()
    return exp_to(x, 89.0, 710.0)

def exp_to(x, top32, top64):
    """2**k * e**r with x = k ln 2 + r, for x up to a number by type, which stands for those above it."""
    inline()
    if is_f64(x):
        x = minimum(maximum(x, -746.0), top64)
        k = rint(x * 1.4426950408889634)
        r = fma(k, -6.93147180369123816490e-01, x)
        r = fma(k, -1.90821492927058770002e-10, r)
        p = 1.0 + fma(r * r, exp_tail(r), r)
    else:
        x = minimum(maximum(x, -104.5), top32)
        k = rint(x * 1.4426950408889634)
        r = fma(k, -0.693359375, x)
        r = fma(k, 2.12194440e-4, r)
        p = fma(fma(exp_tail(r), r, 1.0), r, 1.0)
    return scale(p, k)

def exp_tail(r):
    """(e**r - 1 - r) / r**2 for |r| <= ln(2) / 2."""
    inline()
    if is_f64(r):
        return horner(r, (1.6059043836821613e-10, 2.08767569878681e-09, 2.505210838544172e-08,
            2.755731922398589e-07, 2.7557319223985893e-06,
            2.48015873015873e-05, 1.984126984126984e-04, 1.388888888888889e-03, 8.333333333333333e-03,
            4.1666666666666664e-02, 0.16666666666666666, 0.5))
    return horner(r, (1.3882521589e-3, 8.3665206656e-3, 4.1667199861e-2, 1.6666543620e-1, 4.9999998154e-1))

def expm1(x):
    inline()
    if is_f64(x):
        y = minimum(maximum(x, -60.0), 709.9)
    else:
        y = minimum(maximum(x, -30.0), 88.8)
    return where(x == 0, x, expm1_of(y))

def expm1_of(y):
    """2**k (e**r - 1) + 2**k - 1; k - 1 is used throughout, for 2**k itself can overflow."""
    inline()
    if is_f64(y):
        k = rint(y * 1.4426950408889634)
        r = fma(k, -6.93147180369123816490e-01, y)
        r = fma(k, -1.90821492927058770002e-10, r)
        half = bitcast((cast(k, i64) + 1022) << 52, f64)
    else:
        k = rint(y * 1.4426950408889634)
        r = fma(k, -0.693359375, y)
        r = fma(k, 2.12194440e-4, r)
        half = bitcast((cast(k, i32) + 126) << 23, f32)
    p = fma(r * r, exp_tail(r), r)
    z = fma(half, p, half - 0.5)
    return z + z

def log(x):
    inline()
    return log_plus(x, -0.0)

def log_plus(x, c):
    """log(x) + c, where c is a correction below an ulp of x."""
    inline()
    if is_f64(x):
        small = x < 2.2250738585072014e-308
        i = bitcast(where(small, x * 18014398509481984.0, x), i64)
        e = (i - 0x3fe6a09e667f3bcd) >> 52
        f = bitcast(i - (e << 52), f64) - 1.0
        k = cast(e, f64) - where(small, like(x, 54.0), 0.0)
        s = f / (2.0 + f)
        z = s * s
        p = z * horner(z, (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
            2.222219843214978396e-01,
            2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01))
        h = 0.5 * f * f
        low = fma(s, h + p, fma(k, 1.90821492927058770002e-10, like(f, c)))
        y = fma(k, 6.93147180369123816490e-01, f - (h - low))
    else:
        small = x < 1.17549435e-38
        i = bitcast(where(small, x * 8388608.0, x), i32)
        e = (i - 0x3f3504f3) >> 23
        f = bitcast(i - (e << 23), f32) - 1.0
        k = cast(e, f32) - where(small, like(x, 23.0), 0.0)
        z = f * f
        p = horner(f, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
            -1.6668057665e-1, 2.0000714765e-1,
            -2.4999993993e-1, 3.3333331174e-1)) * z * f
        y = fma(k, -2.12194440e-4, p)
        y = fma(-0.5, z, y)
        y = fma(k, 0.693359375, f + (y + c))
    y = where(x < inf, y, x)
    return where(x > 0, y, where(x == 0, like(y, -inf), where(x < 0, like(y, nan), x)))

def log1p(x):
    """log(u) + (x - (u - 1)) / u with u = 1 + x rounded."""
    inline()
    u = 1.0 + x
    c = (x - (u - 1.0)) / u
    y = log_plus(u, where((u > 0) & (u < inf), c, 0.0))
    return where(x == 0, x, y)

def log2(x):
    inline()
    return log(x) * 1.4426950408889634

def log10(x):
    inline()
    return log(x) * 0.4342944819032518

def rsqrt(x):
    inline()
    return 1.0 / sqrt(x)

def reciprocal(x):
    inline()
    return 1.0 / x

def square(x):
    inline()
    return x * x

def sigmoid(x):
    """e**x / (1 + e**x), which is 1 long before e**x overflows."""
    inline()
    e = exp_to(x, 88.0, 709.0)
    return e / (1.0 + e)

def tanh(x):
    """e / (e + 2) with e = expm1(2 |x|).

    In f32 a sum with 1.5 * 2**23 + 126 rounds to k and has 2**(k - 1) in its low bits, and one piece of ln 2 is exact
    enough: k times its error grows more slowly than the derivative falls.
    """
    inline()
    y = minimum(2.0 * abs(x), 40.0)
    if is_f64(x):
        e = expm1_of(y)
        return copysign(e / (e + 2.0), x)
    t = fma(y, 1.4426950408889634, 12583038.0)
    r = fma(t - 12583038.0, -0.6931471805599453, y)
    half = bitcast(bitcast(t, i32) << 23, f32)
    z = fma(half, fma(r * r, exp_tail(r), r), half - 0.5)
    return copysign(z / (z + 1.0), x)

def softplus(x):
    inline()
    return maximum(x, 0.0) + log1p(exp(-abs(x)))

def sinh(x):
    inline()
    a = abs(x)
    e = expm1(minimum(a, 30.0))
    h = exp(0.5 * a)
    return copysign(where(a > 25.0, (0.5 * h) * h, 0.5 * (e + e / (e + 1.0))), x)

def cosh(x):
    inline()
    h = exp(0.5 * abs(x))
    e = h * h
    return where(abs(x) > 25.0, (0.5 * h) * h, 0.5 * (e + 1.0 / e))

def asinh(x):
    inline()
    a = abs(x)
    y = log1p(a + a * a / (1.0 + sqrt(fma(a, a, 1.0))))
    return copysign(where(a > 1e9, log(a) + 0.6931471805599453, y), x)

def acosh(x):
    inline()
    t = x - 1.0
    y = log1p(t + sqrt(fma(t, t, 2.0 * t)))
    return where(x > 1e9, log(x) + 0.6931471805599453, where(x < 1, like(y, nan), y))

def atanh(x):
    inline()
    a = abs(x)
    return copysign(0.5 * log1p(2.0 * a / (1.0 - a)), x)

def quadrant(x):
    """(q, r) with x = q pi / 2 + r; pi / 2 in pieces short enough that q times them is exact.

    Beyond the reach of that (1e6; f64: 1e9) the angle is taken as 0,
            so that results stay in range; no number stays none.
    """
    inline()
    x = where(abs(x) < (1e9 if is_f64(x) else 1e6), x, 0.0 * x)
    k = rint(x * 0.6366197723675814)
    if is_f64(x):
        r = fma(k, -1.57079632673412561417e+00, x)
        r = fma(k, -6.07710050630396597660e-11, r)
        r = fma(k, -2.02226624871116645580e-21, r)
        return cast(k, i64), r
    r = fma(k, -1.5703125, x)
    r = fma(k, -4.837512969970703125e-4, r)
    r = fma(k, -7.549533620476723e-08, r)
    r = fma(k, -2.5632829192545614e-12, r)
    return cast(k, i32), r

def sin_part(r):
    """sin r for |r| <= pi / 4."""
    inline()
    z = r * r
    if is_f64(r):
        return fma(r * z, horner(z, (-8.22063524662433e-18, 2.811457254345521e-15, -7.647163731819816e-13,
            1.605904383682161e-10, -2.505210838544172e-08,
            2.755731922398589e-06, -1.984126984126984e-04, 8.333333333333333e-03, -0.16666666666666666)), r)
    return fma(r * z, horner(z, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)), r)

def cos_part(r):
    """cos r for |r| <= pi / 4."""
    inline()
    z = r * r
    if is_f64(r):
        return fma(z * z, horner(z, (4.779477332387385e-14, -1.147074559772972e-11, 2.08767569878681e-09,
            -2.755731922398589e-07,
            2.48015873015873e-05, -1.388888888888889e-03, 4.1666666666666664e-02)), fma(z, -0.5, 1.0))
    return fma(z * z, horner(z, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)), fma(z, -0.5,
            1.0))

def turned(q, r):
    """The sine after q quarter turns."""
    inline()
    y = where((q & 1) == 0, sin_part(r), cos_part(r))
    return where((q & 2) == 0, y, -y)

def sin(x):
    inline()
    q, r = quadrant(x)
    return where(x == 0, x, turned(q, r))

def cos(x):
    inline()
    q, r = quadrant(x)
    return turned(q + 1, r)

def tan(x):
    inline()
    q, r = quadrant(x)
    even = (q & 1) == 0
    s, c = sin_part(r), cos_part(r)
    return where(x == 0, x, where(even, s, -c) / where(even, c, s))

def asin_tail(z):
    """(asin(t) - t) / t for z = t**2 <= 1/4."""
    inline()
    if is_f64(z):
        p = horner(z, (3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02,
            2.01212532134862925881e-01,
            -3.25565818622400915405e-01, 1.66666666666666657415e-01))
        q = horner(z, (7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e+00,
            -2.40339491173441421878e+00, 1.0))
        return z * p / q
    return z * horner(z, (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1))

def asin(x):
    """Above 1/2 as pi / 2 - 2 asin(sqrt((1 - x) / 2))."""
    inline()
    a = abs(x)
    large = a > 0.5
    z = where(large, 0.5 * (1.0 - a), a * a)
    t = where(large, sqrt(z), a)
    y = fma(t, asin_tail(z), t)
    return copysign(where(large, 1.5707963267948966 - 2.0 * y, y), x)

def acos(x):
    inline()
    a = abs(x)
    large = a > 0.5
    z = where(large, 0.5 * (1.0 - a), a * a)
    t = where(large, sqrt(z), x)
    y = fma(t, asin_tail(z), t)
    return where(large, where(x > 0, 2.0 * y, 3.141592653589793 - 2.0 * y), 1.5707963267948966 - y)

def atan(x):
    """Reduced to |t| <= tan(pi / 8) by pi / 4 and pi / 2."""
    inline()
    a = abs(x)
    big, middle = a > 2.414213562373095, a > 0.4142135623730950
    t = where(big, -1.0, where(middle, a - 1.0, a)) / where(big, a, where(middle, a + 1.0, 1.0))
    base = where(big, 1.5707963267948966, where(middle, like(a, 0.7853981633974483), 0.0))
    rest = where(big, 6.123233995736766e-17, where(middle, like(a, 3.061616997868383e-17), 0.0))
    z = t * t
    if is_f64(x):
        p = horner(z, (-0.019162068915902573, 0.03921955253255129, -0.05085030492810941, 0.058580687568615106,
            -0.06664502215671447, 0.07692182535116648,
            -0.09090904549884611, 0.11111111014561013, -0.14285714284657894, 0.1999999999999548, -0.3333333333333333))
    else:
        p = horner(z, (-0.06449835224591496, 0.1074309966767457, -0.14263897112598675, 0.1999953879477192,
            -0.3333333175381697))
        rest = where(big, -4.371139000186241e-08, where(middle, like(a, -2.1855695000931203e-08), 0.0))
    return copysign(base + (fma(t * z, p, t) + rest), x)

def atan2(y, x):
    inline()
    a, b = abs(y), abs(x)
    ratio = where((a == inf) & (b == inf), 1.0, where(a == 0, 0.0, a / b))
    angle = atan(ratio)
    angle = where(copysign(1.0, x) < 0, 3.141592653589793 - angle, angle)
    return where(isnan(x) | isnan(y), x + y, copysign(angle, y))

def erf(x):
    """x + x P(x**2) below 1; above it 1 - e**(-x**2) Q((x - c) / (x + c)) / (1 + x)."""
    inline()
    a = abs(x)
    z = a * a
    if is_f64(x):
        low = horner(z, (-4.230945824295338e-12, 8.709045129053106e-11, -1.216456005728345e-09,
            1.4792401209404813e-08, -1.6364642158167616e-07,
            1.6462045441468418e-06, -1.4925647567519332e-05, 0.00012055332902888736, -0.000854832702193483,
            0.0052239776254232985,
            -0.02686617064512984, 0.1128379167095512, -0.37612638903183754, 0.1283791670955126))
        b = minimum(a, 6.0)
        u = (b - 3.0) / (b + 3.0)
        high = horner(u, (1.1441819515445239e-06, 1.1408562348960274e-07, -8.8554108163957e-06,
            -1.449380497211421e-06,
            5.6102717072118784e-05, -2.0562420081387143e-05, -0.00036728755307919913, 0.0006458150985835851,
            0.0016185691087946521, -0.0097506893314027, 0.02195776401249572, -0.023803913107859617,
            -0.010235388899000494, 0.09902075367943361, -0.23092733308380925, 0.7160046047255598))
        limit = 1.0
    else:
        low = horner(z, (8.316879717745381e-05, -0.0008130444670237092, 0.005199989254558691,
            -0.026858997423761088, 0.11283688724605818,
            -0.37612633334349227, 0.12837916660163606))
        b = minimum(a, 4.0)
        u = (b - 2.0) / (b + 2.0)
        high = horner(u, (0.003739554855859794, -0.000484788326657467, -0.02522613326615015, 0.04253383353003357,
            0.03781342462300093, -0.25997478807246777, 0.7661870307581705))
        limit = 0.87
    y = where(a < limit, fma(a, low, a), 1.0 - exp(-b * b) * high / (1.0 + b))
    return copysign(y, x)

def pow(x, y):
    """e**(y log |x|) in double precision with the signs and limits of IEEE 754; integers come as integers."""
    inline()
    if is_float(x):
        if is_f64(x):
            return pow_f64(x, y)
        return cast(pow_f64(cast(x, f64), cast(like(x, y), f64)), f32)
    return pow_int(x, y)

def pow_f64(x, y):
    inline()
    a = abs(x)
    magnitude = exp(y * log(a))
    magnitude = where((a == 1) | (y == 0), 1.0, magnitude)
    whole = floor(y) == y
    odd = whole & (floor(0.5 * y) * 2.0 != y)
    signed = where((x < 0) & odd, -magnitude, magnitude)
    signed = where((x == 0) & odd, copysign(magnitude, x), signed)
    return where((x < 0) & (x > -inf) & ~whole & (abs(y) < inf), like(signed, nan), signed)

def pow_int(x, y):
    """Six squarings: exponents up to 63, 0 for negative ones."""
    inline()
    result = x * 0 + 1
    base = x
    for bit in static(6):
        result = where(((y >> bit) & 1) == 1, result * base, result)
        base = base * base
    return where(y < 0, where(abs(x) == 1, where((y & 1) == 1, x, x * x), 0), result)

def floor_mod(x, y):
    """The remainder with the sign of the divisor."""
    inline()
    if is_float(x):
        q = floor(x / y)
        r = fma(-q, y, x)
        r = where((r != 0) & ((r < 0) != (y < 0)), r + y, r)
        r = where(abs(r) >= abs(y), 0.0, r)
        return where((abs(y) == inf) & (abs(x) < inf), where((x != 0) & ((x < 0) != (y < 0)), y, x), r)
    return x % y
'''


@functools.cache
def texts() -> dict[str, str]:
    """The source of every function by name; a program parses only those it uses."""
    return functions_of(SOURCE)


def functions_of(source: str) -> dict[str, str]:
    """The text of each function of a source by its name."""
    parts = re.split(r"^(?=def )", source, flags=re.MULTILINE)[1:]
    return {part[4 : part.index("(")]: part for part in parts}
