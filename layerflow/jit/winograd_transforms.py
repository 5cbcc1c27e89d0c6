"""Winograd's F(4x4, 3x3): the transforms along one axis, as functions of the kernel language.

A tile of 6x6 inputs d and a 3x3 kernel g give 4x4 outputs y = A^T ((G g G^T) * (B^T d B)) A, with 36 products in place
of 144.  The matrices interpolate the product of two polynomials at 0, p, -p, q, -q and infinity.  Usual are the points
1 and 2; 5/8 and 3/2 halve the rounding error, as their powers stay near 1, and these are exact in float32.
Gradients run the steps backwards: A turns a gradient of outputs into points, B and G^T turn points into gradients of
inputs and of the kernel.

POINTS is the size of a tile of inputs along an axis, OUTPUTS that of its outputs: a new tile starts OUTPUTS further on.
"""

from __future__ import annotations

import functools

from layerflow.jit.libm import functions_of

POINTS, OUTPUTS, TAPS = 6, 4, 3
P, Q = 0.625, 1.5
_PP, _QQ = P * P, Q * Q
# Rows of G are divided by the product of the differences to the other points.
_AT_ZERO, _AT_P, _AT_Q = 1 / (_PP * _QQ), 1 / (2 * _PP * (_PP - _QQ)), 1 / (2 * _QQ * (_QQ - _PP))

SOURCE = f'''
def winograd_input(d0, d1, d2, d3, d4, d5):
    """B^T d."""
    inline()
    even_p = fma(d2, {-_QQ}, d4)
    odd_p = fma(d1, {-_QQ}, d3)
    even_q = fma(d2, {-_PP}, d4)
    odd_q = fma(d1, {-_PP}, d3)
    t0 = fma(d0, {_PP * _QQ}, fma(d2, {-_PP - _QQ}, d4))
    t5 = fma(d1, {_PP * _QQ}, fma(d3, {-_PP - _QQ}, d5))
    return t0, fma(odd_p, {P}, even_p), fma(odd_p, {-P}, even_p), fma(odd_q, {Q}, even_q), fma(odd_q, {-Q}, even_q), t5

def winograd_output(m0, m1, m2, m3, m4, m5):
    """A^T m."""
    inline()
    even_p = m1 + m2
    odd_p = m1 - m2
    even_q = m3 + m4
    odd_q = m3 - m4
    y0 = m0 + even_p + even_q
    y1 = fma(odd_q, {Q}, odd_p * {P})
    y2 = fma(even_q, {_QQ}, even_p * {_PP})
    y3 = fma(odd_q, {Q * _QQ}, fma(odd_p, {P * _PP}, m5))
    return y0, y1, y2, y3

def winograd_output_gradient(y0, y1, y2, y3):
    """A y."""
    inline()
    even_p = fma(y2, {_PP}, y0)
    odd_p = fma(y3, {_PP}, y1)
    even_q = fma(y2, {_QQ}, y0)
    odd_q = fma(y3, {_QQ}, y1)
    return y0, fma(odd_p, {P}, even_p), fma(odd_p, {-P}, even_p), fma(odd_q, {Q}, even_q), fma(odd_q, {-Q}, even_q), y3

def winograd_input_gradient(t0, t1, t2, t3, t4, t5):
    """B t."""
    inline()
    even_p = t1 + t2
    odd_p = t1 - t2
    even_q = t3 + t4
    odd_q = t3 - t4
    d1 = fma(odd_p, {-P * _QQ}, fma(odd_q, {-Q * _PP}, t5 * {_PP * _QQ}))
    d2 = fma(even_p, {-_QQ}, fma(even_q, {-_PP}, t0 * {-_PP - _QQ}))
    d3 = fma(odd_p, {P}, fma(odd_q, {Q}, t5 * {-_PP - _QQ}))
    return t0 * {_PP * _QQ}, d1, d2, d3, t0 + even_p + even_q, t5

def winograd_kernel(g0, g1, g2):
    """G g."""
    inline()
    even_p = fma(g2, {_PP}, g0) * {_AT_P}
    even_q = fma(g2, {_QQ}, g0) * {_AT_Q}
    odd_p = g1 * {P * _AT_P}
    odd_q = g1 * {Q * _AT_Q}
    return g0 * {_AT_ZERO}, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, g2

def winograd_kernel_gradient(u0, u1, u2, u3, u4, u5):
    """G^T u."""
    inline()
    even_p = (u1 + u2) * {_AT_P}
    even_q = (u3 + u4) * {_AT_Q}
    odd_p = (u1 - u2) * {P * _AT_P}
    odd_q = (u3 - u4) * {Q * _AT_Q}
    return fma(u0, {_AT_ZERO}, even_p + even_q), odd_p + odd_q, fma(even_p, {_PP}, fma(even_q, {_QQ}, u5))
'''


@functools.cache
def texts() -> dict[str, str]:
    """The source of every transform by name."""
    return functions_of(SOURCE)
