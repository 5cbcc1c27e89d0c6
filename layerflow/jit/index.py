"""Index arithmetic: sums of loop variables with coefficients, so simple that moves cost nothing in generated code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from layerflow.graph.shapes import Dim, Extent, Shape


@dataclasses.dataclass(frozen=True)
class Index:
    """`const` plus a sum of `coefficient * atom`; an atom is a variable or an expression that could not be split."""

    terms: tuple[tuple[str, int], ...] = ()
    const: int = 0

    def __str__(self) -> str:
        parts = [atom if c == 1 else f"{atom} * {c}" for atom, c in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts)

    @property
    def text(self) -> str:
        """As an operand of a product or quotient."""
        one = (len(self.terms) == 1 and self.terms[0][1] == 1 and not self.const) or not self.terms
        return str(self) if one else f"({self})"

    @property
    def is_zero(self) -> bool:
        return not self.terms and not self.const


ZERO = Index()


def var(name: str) -> Index:
    return Index(((name, 1),))


def number(value: int) -> Index:
    return Index((), value)


def add(a: Index, b: Index) -> Index:
    terms = dict(a.terms)
    for atom, c in b.terms:
        terms[atom] = terms.get(atom, 0) + c
    return Index(tuple((t, c) for t, c in terms.items() if c), a.const + b.const)


def scale(a: Index, factor: int) -> Index:
    return ZERO if factor == 0 else Index(tuple((t, c * factor) for t, c in a.terms), a.const * factor)


class Ranges:
    """Exclusive upper bounds of atoms; unknown bounds allow no simplification.  All atoms are >= 0."""

    def __init__(self) -> None:
        self.bounds: dict[str, int | None] = {}
        self.parts: dict[str, tuple[Index, int, bool]] = {}  # atom -> (numerator, divisor, is remainder)

    def declare(self, name: str, bound: Extent | None) -> Index:
        self.bounds[name] = bound if isinstance(bound, int) else None
        return var(name)

    def largest(self, a: Index) -> int | None:
        """Largest value of `a`, if every atom is bounded."""
        total = a.const
        for atom, c in a.terms:
            bound = self.bounds.get(atom)
            if bound is None or c < 0:
                return None
            total += c * (bound - 1)
        return total

    def _split(self, a: Index, n: int) -> tuple[Index, Index]:
        """(q, r) with a = q * n + r, moving every term that n divides into q."""
        whole = tuple((t, c // n) for t, c in a.terms if c % n == 0)
        rest = tuple((t, c) for t, c in a.terms if c % n)
        return Index(whole, a.const // n), Index(rest, a.const % n)

    def divide(self, a: Index, n: Extent) -> Index:
        """a // n."""
        if n == 1:
            return a
        if isinstance(n, Dim):
            return self._opaque(f"({a} // extent)", a, 0, False)
        if len(a.terms) == 1 and a.terms[0][1] == 1 and not a.const:
            numerator, divisor, remainder = self.parts.get(a.terms[0][0], (a, 0, True))
            if not remainder and divisor:
                return self.divide(numerator, divisor * n)
        whole, rest = self._split(a, n)
        top = self.largest(rest)
        if top is not None and top < n:
            return whole
        return add(whole, self._opaque(f"({rest.text} // {n})", rest, n, False))

    def modulo(self, a: Index, n: Extent) -> Index:
        """a % n."""
        if n == 1:
            return ZERO
        if isinstance(n, Dim):
            return a  # only the leading axis has such an extent, and what is left of it is below it
        _, rest = self._split(a, n)
        top = self.largest(rest)
        if top is not None and top < n:
            return rest
        return self._opaque(f"({rest.text} % {n})", rest, n, True)

    def joined(self, a: Index) -> Index:
        """`a` with (x // n) * n * c + (x % n) * c put together again to x * c."""
        terms = dict(a.terms)
        for atom, c in a.terms:
            numerator, n, is_remainder = self.parts.get(atom, (ZERO, 0, False))
            quotient = f"({numerator.text} // {n})"
            if is_remainder and atom in terms and terms.get(quotient) == c * n:
                rest = Index(tuple((t, k) for t, k in terms.items() if t not in (atom, quotient)), a.const)
                return self.joined(add(rest, scale(numerator, c)))
        return a

    def _opaque(self, text: str, numerator: Index, n: int, remainder: bool) -> Index:
        top = self.largest(numerator)
        self.bounds[text] = n if remainder else (None if top is None or not n else top // n + 1)
        self.parts[text] = (numerator, n, remainder)
        return var(text)

    def depends(self, a: Index, name: str) -> bool:
        """Whether `a` uses the variable, directly or inside an opaque atom."""
        return any(t == name or (t in self.parts and self.depends(self.parts[t][0], name)) for t, _ in a.terms)

    def coefficient(self, a: Index, name: str) -> int | None:
        """The factor of the variable if `a` is linear in it (0 if absent), else None."""
        found = 0
        for t, c in a.terms:
            if t == name:
                found = c
            elif t in self.parts and self.depends(self.parts[t][0], name):
                return None
        return found


def flatten(index: Sequence[Index], shape: Shape) -> Index:
    """Row-major position; only the leading extent may be a run-time one."""
    flat = ZERO
    for position, extent in zip(index, shape, strict=True):
        flat = add(scale(flat, extent), position) if isinstance(extent, int) else position
    return flat


def unflatten(flat: Index, shape: Shape, ranges: Ranges) -> list[Index]:
    """The index tuple of a row-major position."""
    out: list[Index] = []
    for extent in reversed(shape[1:]):
        out.append(ranges.modulo(flat, extent))
        flat = ranges.divide(flat, extent)
    return [flat, *reversed(out)] if shape else []


def reshape(index: Sequence[Index], old: Shape, new: Shape, ranges: Ranges) -> list[Index]:
    """The index into `old` of the element at `index` of `new`, axis groups of equal size apart."""
    out: list[Index] = []
    i = j = 0
    while i < len(new) or j < len(old):
        i0, j0 = i, j
        left, right = _extent(new, i), _extent(old, j)
        i, j = min(i + 1, len(new)), min(j + 1, len(old))
        while left != right:
            # Grow the smaller side until both groups hold as many elements.
            if _smaller(left, right) and i < len(new):
                left, i = _times(left, new[i]), i + 1
            elif j < len(old):
                right, j = _times(right, old[j]), j + 1
            else:
                left, i = _times(left, new[i]), i + 1
        out += unflatten(flatten(index[i0:i], new[i0:i]), old[j0:j], ranges) if j > j0 else []
    return out


def _extent(shape: Shape, at: int) -> Extent:
    return shape[at] if at < len(shape) else 1


def _times(a: Extent, b: Extent) -> Extent:
    if isinstance(a, Dim):
        return Dim(a.symbol, a.factor * b) if isinstance(b, int) else a
    return Dim(b.symbol, a * b.factor) if isinstance(b, Dim) else a * b


def _smaller(a: Extent, b: Extent) -> bool:
    if isinstance(a, Dim) and isinstance(b, Dim):
        return a.factor < b.factor
    if isinstance(a, Dim) or isinstance(b, Dim):
        return isinstance(b, Dim)
    return a < b
