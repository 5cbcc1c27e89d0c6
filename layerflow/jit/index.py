"""Index arithmetic: sums of loop variables with coefficients, so simple that moves cost nothing in generated code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from layerflow.graph import shapes
from layerflow.graph.shapes import BATCH, Dim, Extent, Shape


@dataclasses.dataclass(frozen=True)
class Index:
    """`const` plus a sum of `coefficient * atom`; an atom is a variable or an expression that could not be split.

    A coefficient may be an extent that is known only at run time; its symbols are variables in generated code.
    """

    terms: tuple[tuple[str, Extent], ...] = ()
    const: int = 0

    def __str__(self) -> str:
        parts = [atom if c == 1 else f"{atom} * {shapes.code(c)}" for atom, c in self.terms]
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


def number(value: Extent) -> Index:
    if isinstance(value, int):
        return Index((), value)
    return Index(((shapes.code(shapes.divide(value, n := shapes.number_of(value))), n),))


def add(a: Index, b: Index) -> Index:
    terms = dict(a.terms)
    for atom, c in b.terms:
        terms[atom] = shapes.add(terms.get(atom, 0), c)
    return Index(tuple((t, c) for t, c in terms.items() if c), a.const + b.const)


def scale(a: Index, factor: Extent) -> Index:
    if factor == 0 or a.is_zero:
        return ZERO
    if isinstance(factor, int):
        return Index(tuple((t, c * factor) for t, c in a.terms), a.const * factor)
    return add(Index(tuple((t, c * factor) for t, c in a.terms)), number(factor * a.const))


class Ranges:
    """Exclusive upper bounds of atoms; unknown bounds allow no simplification.  All atoms are >= 0."""

    def __init__(self) -> None:
        self.bounds: dict[str, Extent | None] = {}
        self.parts: dict[str, tuple[Index, Extent, bool]] = {}  # atom -> (numerator, divisor, is remainder)
        self.steps: dict[str, int] = {}  # variable -> a number of which it is a multiple

    def declare(self, name: str, bound: Extent | None) -> Index:
        self.bounds[name] = bound
        return var(name)

    def largest(self, a: Index) -> int | None:
        """Largest value of `a`, if every atom is bounded by a number."""
        total = a.const
        for atom, c in a.terms:
            bound = self.bounds.get(atom)
            if not isinstance(bound, int) or not isinstance(c, int) or c < 0:
                return None
            total += c * (bound - 1)
        return total

    def is_below(self, a: Index, n: Extent) -> bool:
        """Whether `a` < n, as far as can be seen."""
        top = self.largest(a)
        if isinstance(n, int) or top is not None:
            return isinstance(n, int) and top is not None and top < n
        # Digits: with each coefficient a multiple of all that lies below it, the sum stays below the last product.
        below: Extent = 1
        terms = sorted(a.terms, key=lambda term: (len(shapes.symbols_of(term[1])), shapes.number_of(term[1])))
        for atom, c in terms:
            bound = self.bounds.get(atom)
            if bound is None or shapes.quotient(c, below) is None:
                return False
            below = shapes.multiply(c, bound)
        return not a.const and shapes.quotient(n, below) is not None

    def _split(self, a: Index, n: Extent) -> tuple[Index, Index]:
        """(q, r) with a = q * n + r, moving every term that n divides into q."""
        shares = [(t, c, shapes.quotient(c, n)) for t, c in a.terms]
        whole = tuple((t, q) for t, _, q in shares if q is not None)
        rest = tuple((t, c) for t, c, q in shares if q is None)
        if isinstance(n, Dim):
            return Index(whole), Index(rest, a.const)
        return Index(whole, a.const // n), Index(rest, a.const % n)

    def divide(self, a: Index, n: Extent) -> Index:
        """a // n."""
        if n == 1:
            return a
        if len(a.terms) == 1 and a.terms[0][1] == 1 and not a.const:
            numerator, divisor, remainder = self.parts.get(a.terms[0][0], (a, 0, True))
            if not remainder and divisor:
                return self.divide(numerator, shapes.multiply(divisor, n))
        whole, rest = self._split(a, n)
        exact, rest = self._multiples(rest, n)
        if not exact.is_zero:
            whole = add(whole, self._opaque(f"({exact.text} // {_divisor(n)})", exact, n, False))
        if self.is_below(rest, n):
            return whole
        return add(whole, self._opaque(f"({rest.text} // {_divisor(n)})", rest, n, False))

    def modulo(self, a: Index, n: Extent) -> Index:
        """a % n."""
        if n == 1:
            return ZERO
        if BATCH in shapes.symbols_of(n):
            return a  # only the leading axis has such an extent, and what is left of it is below it
        _, rest = self._multiples(self._split(a, n)[1], n)
        if self.is_below(rest, n):
            return rest
        return self._opaque(f"({rest.text} % {_divisor(n)})", rest, n, True)

    def _multiples(self, a: Index, n: Extent) -> tuple[Index, Index]:
        """The terms that are known to be multiples of n, and the rest."""
        exact = tuple(
            (t, c)
            for t, c in a.terms
            if t in self.steps and isinstance(c, int) and isinstance(n, int) and c * self.steps[t] % n == 0
        )
        return Index(exact), Index(tuple(t for t in a.terms if t not in exact), a.const)

    def joined(self, a: Index) -> Index:
        """`a` with (x // n) * n * c + (x % n) * c put together again to x * c."""
        terms = dict(a.terms)
        for atom, c in a.terms:
            numerator, n, is_remainder = self.parts.get(atom, (ZERO, 0, False))
            quotient = f"({numerator.text} // {_divisor(n)})"
            if is_remainder and atom in terms and terms.get(quotient) == shapes.multiply(c, n):
                rest = Index(tuple((t, k) for t, k in terms.items() if t not in (atom, quotient)), a.const)
                return self.joined(add(rest, scale(numerator, c)))
        return a

    def _opaque(self, text: str, numerator: Index, n: Extent, remainder: bool) -> Index:
        top = self.largest(numerator)
        quotients = top // n + 1 if isinstance(n, int) and n and top is not None else None
        self.bounds[text] = n if remainder else quotients
        self.parts[text] = (numerator, n, remainder)
        return var(text)

    def depends(self, a: Index, name: str) -> bool:
        """Whether `a` uses the variable, directly or inside an opaque atom."""
        return any(t == name or (t in self.parts and self.depends(self.parts[t][0], name)) for t, _ in a.terms)

    def coefficient(self, a: Index, name: str) -> Extent | None:
        """The factor of the variable if `a` is linear in it (0 if absent), else None."""
        found: Extent = 0
        for t, c in a.terms:
            if t == name:
                found = c
            elif t in self.parts and self.depends(self.parts[t][0], name):
                return None
        return found

    def along(self, a: Index, name: str, run: int) -> Extent | None:
        """The factor of the variable for `run` values from a multiple of `run` on; None if it has none.

        Meanwhile x // n stays as it is and x % n grows with x, if `run` divides n and all that x is made of besides.
        """
        found: Extent = 0
        for t, c in a.terms:
            if t == name:
                found = shapes.add(found, c)
            elif t in self.parts and self.depends(self.parts[t][0], name):
                numerator, n, remainder = self.parts[t]
                others = [k for x, k in numerator.terms if x != name]
                plain = self.coefficient(numerator, name) == 1
                if not plain or not all(isinstance(k, int) and k % run == 0 for k in (n, numerator.const, *others)):
                    return None
                found = shapes.add(found, c) if remainder else found
        return found

    def put(self, a: Index, name: str, value: Index) -> Index:
        """`a` with a value for the variable."""
        total = number(a.const)
        for t, c in a.terms:
            part = value if t == name else var(t)
            if t in self.parts and self.depends(self.parts[t][0], name):
                numerator, n, remainder = self.parts[t]
                inside = self.put(numerator, name, value)
                part = self.modulo(inside, n) if remainder else self.divide(inside, n)
            total = add(total, scale(part, c))
        return total


def _divisor(n: Extent) -> str:
    return str(n) if isinstance(n, int) else f"({shapes.code(n)})"


def flatten(index: Sequence[Index], shape: Shape) -> Index:
    """Row-major position."""
    flat = ZERO
    for position, extent in zip(index, shape, strict=True):
        flat = add(scale(flat, extent), position)
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
                left, i = shapes.multiply(left, new[i]), i + 1
            elif j < len(old):
                right, j = shapes.multiply(right, old[j]), j + 1
            else:
                left, i = shapes.multiply(left, new[i]), i + 1
        out += unflatten(flatten(index[i0:i], new[i0:i]), old[j0:j], ranges) if j > j0 else []
    return out


def _extent(shape: Shape, at: int) -> Extent:
    return shape[at] if at < len(shape) else 1


def _smaller(a: Extent, b: Extent) -> bool:
    mine, other = shapes.symbols_of(a), shapes.symbols_of(b)
    return shapes.number_of(a) < shapes.number_of(b) if mine == other else len(mine) < len(other)
