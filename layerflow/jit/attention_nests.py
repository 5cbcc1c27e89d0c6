"""Nests of attention without stored scores, forward and backward (the formulas: graph/ops/attention.py)."""

from __future__ import annotations

from collections.abc import Sequence

from layerflow.graph.ops.attention import HIDDEN
from layerflow.graph.shapes import static
from layerflow.jit.attention_nest import WORK, AttentionNest
from layerflow.jit.products import Matrix


class ForwardNest(AttentionNest):
    """attend, attend_sums or both."""

    def before_heads(self) -> None:
        s = self.sizes
        _, k, v = self.op.inputs[:3]
        self.keys = self.place("keys", s.all_keys * s.pitch(s.depth))
        self.values = self.place("values", s.all_keys * s.pitch(s.width))
        self.copy_turned(k, self.keys)
        self.segment(f"for s in range({s.keys}):", ("s",), lambda: self.copy_in(v, ("s", "g"), "s", self.values))

    def rows(self) -> None:
        s = self.sizes
        self.query = self.place("query", s.block_rows * s.pitch(s.depth))
        self.block = self.place("scores", s.block_rows * s.block_keys)
        self.out = self.place("out", s.block_rows * s.pitch(s.width))
        self.tops, self.totals = (self.place(name, s.block_rows) for name in ("tops", "totals"))
        self.each_row("rows", self._start)
        self.blocks(self._lost, self._block)
        self.each_row("rows", self._finish)

    def _start(self) -> None:
        self.copy_in(self.op.inputs[0], ("t", "h"), "r", self.query)
        pitch = self.sizes.pitch(self.sizes.width)
        self.features(pitch, lambda _: self.write(f"store({WORK}, {self.out} + r * {pitch} + x, zeros({self.dtype}))"))
        self.write(f"{WORK}[{self.tops} + r] = {self.dtype}(-inf)")
        self.write(f"{WORK}[{self.totals} + r] = {self.dtype}(0)")

    def _lost(self) -> None:
        self.write(f"least = {WORK}[{self.tops}]")
        self.write("for r in range(rows):")
        self.write(f"    least = minimum(least, {WORK}[{self.tops} + r])")
        self.write(f"lost = least <= {self.dtype}({HIDDEN})")

    def _block(self) -> None:
        s = self.sizes
        self.scores(s.depth, self.query, self.keys, self.block)
        self.each_row("rows", self._softmax)
        pitch = s.pitch(s.width)
        self.product(
            "rows", pitch, "keys",
            Matrix(WORK, str(self.block), s.block_keys, 1),
            Matrix(WORK, f"{self.values} + first * {pitch}", 0, pitch),
            Matrix(WORK, str(self.out), pitch),
        )  # fmt: skip

    def _softmax(self) -> None:
        """Scores of a row become exp(score - largest so far); sum and outputs so far are scaled to that."""
        kind = self.dtype
        self.write(f"old = {WORK}[{self.tops} + r]")
        self.write("top = splat(old)")
        self.each_chunk(self._largest)
        self.write("new = reduce_max(top)")
        self.write(f"{WORK}[{self.tops} + r] = new")
        self.write("scale_ = exp(old - new)")
        self.write(f"total = zeros({kind})")
        self.each_chunk(self._power)
        self.write(f"{WORK}[{self.totals} + r] = {WORK}[{self.totals} + r] * scale_ + reduce_add(total)")
        pitch = self.sizes.pitch(self.sizes.width)
        where = f"{self.out} + r * {pitch} + x"
        self.features(pitch, lambda _: self.write(f"store({WORK}, {where}, load({WORK}, {where}) * splat(scale_))"))

    def _largest(self, at: str) -> None:
        self.write(f"e = load({WORK}, {self.block} + {at})")
        seen, present = self.seen(), self.present()
        if seen:
            self.write(f"e = where({seen}, e, {self.dtype}({HIDDEN}))")
        if present:
            self.write(f"e = where({present}, e, {self.dtype}(-inf))")
        if seen or present:
            self.write(f"store({WORK}, {self.block} + {at}, e)")
        self.write("top = where(e > top, e, top)")

    def _power(self, at: str) -> None:
        self.write(f"e = exp(load({WORK}, {self.block} + {at}) - splat(new))")
        self.write("total = total + e")
        factor = f" * {self.at_score(self.factor)}" if self.factor is not None else ""
        self.write(f"store({WORK}, {self.block} + {at}, e{factor})")

    def _finish(self) -> None:
        self.write(f"inverse = {self.dtype}(1) / {WORK}[{self.totals} + r]")
        for op in self.group.stored:
            if op.name == "attend":
                self.copy_out(op, ("t", "h"), "r", self.out, " * splat(inverse)")
                continue
            pointer, at = self.array(op, "i0", "t", "h", "0")
            self.write(f"{pointer}[{at}] = {WORK}[{self.tops} + r]")
            self.write(f"{pointer}[{at} + 1] = {WORK}[{self.totals} + r]")


class BackwardNest(AttentionNest):
    """attend_query, attend_key and attend_value, or some of them."""

    def before_heads(self) -> None:
        s = self.sizes
        _, k, v = self.op.inputs[:3]
        self.wanted = {op.name: op for op in self.group.members}
        deep, wide = s.pitch(s.depth), s.pitch(s.width)
        self.turned_keys = self.place("turned keys", s.all_keys * deep)
        self.turned_values = self.place("turned values", s.all_keys * wide)
        self.keys, self.to_keys = (self.place(name, s.all_keys * deep) for name in ("keys", "to keys"))
        self.to_values = self.place("to values", s.all_keys * wide)
        self.copy_turned(k, self.turned_keys)
        self.copy_turned(v, self.turned_values)
        self.segment(f"for s in range({s.keys}):", ("s",), lambda: self.copy_in(k, ("s", "g"), "s", self.keys))
        for name, place in (("attend_key", self.to_keys), ("attend_value", self.to_values)):
            if name in self.wanted:
                self.clear(place, str(s.all_keys * s.pitch(static(self.wanted[name].shape[-1]))))

    def after_heads(self) -> None:
        for name, place in (("attend_key", self.to_keys), ("attend_value", self.to_values)):
            if name in self.wanted:
                op = self.wanted[name]
                self.segment(
                    f"for s in range({self.sizes.keys}):",
                    ("s",),
                    lambda op=op, place=place: self.copy_out(op, ("s", "g"), "s", place),
                )

    def rows(self) -> None:
        s = self.sizes
        deep, wide = s.pitch(s.depth), s.pitch(s.width)
        self.query, self.to_query = (self.place(name, s.block_rows * deep) for name in ("query", "to query"))
        self.arriving = self.place("arriving", s.block_rows * wide)
        self.block, self.slopes = (self.place(name, s.block_rows * s.block_keys) for name in ("scores", "slopes"))
        self.clear(self.to_query, str(s.block_rows * deep))

        def start() -> None:
            self.copy_in(self.op.inputs[0], ("t", "h"), "r", self.query)
            self.copy_in(self.op.inputs[5], ("t", "h"), "r", self.arriving)

        self.each_row("rows", start)
        self.blocks(self._lost, self._block)
        to_query = self.wanted.get("attend_query")
        if to_query is not None:
            self.each_row("rows", lambda: self.copy_out(to_query, ("t", "h"), "r", self.to_query))

    def _top(self) -> str:
        pointer, at = self.array(self.op.inputs[3], "i0", "t", "h", "0")
        return f"{pointer}[{at}]"

    def _lost(self) -> None:
        self.write("t = t0")
        self.write(f"least = {self._top()}")
        self.write("for r in range(rows):")
        self.write("    t = t0 + r")
        self.write(f"    least = minimum(least, {self._top()})")
        self.write(f"lost = least <= {self.dtype}({HIDDEN})")

    def _block(self) -> None:
        s = self.sizes
        deep, wide = s.pitch(s.depth), s.pitch(s.width)
        self.scores(s.depth, self.query, self.turned_keys, self.block)
        self.scores(s.width, self.arriving, self.turned_values, self.slopes)
        self.each_row("rows", self._slopes)
        if "attend_value" in self.wanted:
            self.product(
                "keys", wide, "rows",
                Matrix(WORK, str(self.block), 1, s.block_keys),
                Matrix(WORK, str(self.arriving), 0, wide),
                Matrix(WORK, f"{self.to_values} + first * {wide}", wide),
            )  # fmt: skip
        if "attend_key" in self.wanted:
            self.product(
                "keys", deep, "rows",
                Matrix(WORK, str(self.slopes), 1, s.block_keys),
                Matrix(WORK, str(self.query), 0, deep),
                Matrix(WORK, f"{self.to_keys} + first * {deep}", deep),
            )  # fmt: skip
        if "attend_query" in self.wanted:
            self.product(
                "rows", deep, "keys",
                Matrix(WORK, str(self.slopes), s.block_keys, 1),
                Matrix(WORK, f"{self.keys} + first * {deep}", 0, deep),
                Matrix(WORK, str(self.to_query), deep),
            )  # fmt: skip

    def _slopes(self) -> None:
        """A row of scores becomes the softmax after dropout, the products beside it the gradient of the scores."""
        pointer, at = self.array(self.op.inputs[3], "i0", "t", "h", "0")
        self.write(f"top = splat({pointer}[{at}])")
        self.write(f"inverse = splat({self.dtype}(1) / {pointer}[{at} + 1])")
        pointer, at = self.array(self.op.inputs[4], "i0", "t", "h")
        self.write(f"delta = splat({pointer}[{at}])")
        self.each_chunk(self._slope)

    def _slope(self, at: str) -> None:
        seen, present = self.seen(), self.present()
        self.write(f"e = load({WORK}, {self.block} + {at})")
        if seen:
            self.write(f"e = where({seen}, e, {self.dtype}({HIDDEN}))")
        self.write("e = exp(e - top) * inverse")
        if present:
            self.write(f"e = where({present}, e, {self.dtype}(0))")
        self.write(f"d = load({WORK}, {self.slopes} + {at})")
        factor = self.at_score(self.factor) if self.factor is not None else ""
        if factor:
            self.write(f"d = d * {factor}")
        self.write(f"store({WORK}, {self.block} + {at}, e{f' * {factor}' if factor else ''})")
        self.write("d = e * (d - delta)")
        kept: Sequence[str] = [c for c in (seen, present) if c]
        if kept:
            self.write(f"d = where({' & '.join(f'({c})' for c in kept)}, d, {self.dtype}(0))")
        self.write(f"store({WORK}, {self.slopes} + {at}, d)")


NESTS: dict[str, type[AttentionNest]] = {"attend": ForwardNest, "attend_gradient": BackwardNest}
