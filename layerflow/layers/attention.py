"""Attention over sequences.  Arguments, defaults and masks: Keras 3 (INVENTORY 2.8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.ops import attention as forms
from layerflow.graph.ops.random import salt_of
from layerflow.graph.shapes import text
from layerflow.graph.symbolic import is_symbolic
from layerflow.layers.base import Layer
from layerflow.layers.core import share
from layerflow.layers.signatures import as_list
from layerflow.layers.unknown_extents import need_known
from layerflow.registry import accepts_camel_case, factory, option


def both(a: Any, b: Any) -> Any:
    """Where both masks are True; None lets everything through."""
    return b if a is None else a if b is None else ops.logical_and(a, b)


def as_mask(mask: Any) -> Any:
    return mask if mask is None or mask.dtype.kind == "b" else ops.not_equal(mask, 0)


class Attending(Layer):
    """Base of layers of query, value and key: `layer([query, value])`, `layer([query, value, key])` or
    `layer(query, value, key)`; the key is the value unless given."""

    supports_masking = True
    dropout: float
    seed: int | None

    @accepts_camel_case
    def apply(self, query: Any, value: Any = None, key: Any = None, **kwargs: Any) -> Any:
        """As `Layer.apply`, with query, value and key as a list or one by one."""
        given = as_list(query) if value is None else [query, value, *([] if key is None else [key])]
        return super().apply(given, **kwargs)

    def __call__(self, query: Any, value: Any = None, key: Any = None, **kwargs: Any) -> Any:
        return self.apply(query, value, key, **kwargs)

    def _check_inputs(self, shapes: list[Any]) -> None:
        if len(shapes) not in (2, 3):
            raise ArgumentError(f"{self.name} takes [query, value] or [query, value, key], got {len(shapes)} inputs.")
        if any(len(s) < 3 for s in shapes) or len({len(s) for s in shapes}) > 1:
            listed = ", ".join(map(text, shapes))
            raise ShapeError(f"{self.name}: query, value and key must all be [batch, steps, features], got {listed}.")
        for other in shapes[2:]:
            if any(a != b and None not in (a, b) for a, b in zip(shapes[1][:-1], other[:-1], strict=True)):
                raise ShapeError(
                    f"{self.name}: value {text(shapes[1])} and key {text(other)} must have equally many steps."
                )

    def _checked_mask(self, mask: Any, what: str, wanted: Sequence[Any]) -> Any:
        """The mask, if it broadcasts to `wanted`, an axis of heads aside."""
        if mask is None:
            return None
        found = tuple(mask.shape)
        own = found[:1] + found[2:] if len(found) == len(wanted) + 1 else found
        fits = all(a in (b, 1, None) or b is None for a, b in zip(own, wanted, strict=False))
        if len(own) != len(wanted) or not fits:
            raise ShapeError(f"{self.name}: {what} must have shape {text(wanted)}, got {text(found)}.")
        return as_mask(mask)

    def _drops(self, training: Any) -> tuple[float, int] | None:
        """Share of the attention that is dropped, and the salt of its random numbers."""
        return (self.dropout, salt_of(self.name) + (self.seed or 0)) if training and self.dropout else None

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """That of the query."""
        return mask[0] if isinstance(mask, list) else mask

    def _masks(self, mask: Any) -> list[Any]:
        """Those of query, value and key."""
        given = mask if isinstance(mask, list) else [mask]
        return [as_mask(m) for m in [*given, None, None, None][:3]]


class Attention(Attending):
    """Dot-product attention: softmax(query key') value.  Query [batch, steps, features], value and key
    [batch, other steps, features], to [batch, steps, features]; the key is the value unless given.

    Called with [query, value], [query, value, key] or query, value, key; `use_causal_mask` hides later steps, and with
    `return_attention_scores` the result is a list of the output and the attention [batch, steps, other steps].  Masks
    are those of query and value.

    Weights: scale [] with `use_scale`; concat_score_weight [] with score_mode="concat".

    Args:
        use_scale: whether scores are multiplied by a trained number.
        score_mode: "dot", or "concat": tanh(query + key) summed over the features.
        dropout: share of the attention that is dropped while training.
        seed: gives this layer masks of its own.

    Raises:
        ShapeError: inputs of other than 3 axes, value and key of different lengths, masks that do not fit.

    >>> x, value = np.ones((2, 4, 8)), np.ones((2, 6, 8))
    >>> lf.layers.attention().apply(x, value).shape
    (2, 4, 8)
    >>> y, scores = lf.layers.attention().apply(x, x, use_causal_mask=True, return_attention_scores=True)
    >>> scores[0].numpy().round(2)  # each step sees itself and those before it
    array([[1.  , 0.  , 0.  , 0.  ],
           [0.5 , 0.5 , 0.  , 0.  ],
           [0.33, 0.33, 0.33, 0.  ],
           [0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.use_scale = bool(use_scale)
        self.score_mode = option(f"{self.name}: score_mode", score_mode, ("dot", "concat"))
        self.dropout, self.seed = share(self, "dropout", dropout, whole=False), seed

    def build(self, input_shape):
        if self.use_scale:
            self.scale = self.add_weight("scale", (), None, "ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight("concat_score_weight", (), None, "ones")

    @property
    def _is_product(self) -> bool:
        """Whether scores are products of query and key."""
        return self.score_mode == "dot"

    def _scaled(self, query: Any) -> Any:
        return query * self.scale if self.use_scale else query

    def scores(self, query: Any, key: Any) -> Any:
        """[batch, query steps, key steps]."""
        if self._is_product:
            return ops.matmul(self._scaled(query), key, transpose_b=True)
        added = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        return self.concat_score_weight * ops.sum(ops.tanh(self.scale * added if self.use_scale else added), -1)

    def call(self, inputs, mask=None, training=False, return_attention_scores=False, use_causal_mask=False):
        query, value, *rest = inputs
        key = rest[0] if rest else value
        need_known(self.name, *inputs)
        q_mask, v_mask, k_mask = self._masks(mask)
        steps = (query.shape[0], value.shape[1])
        seen = self._checked_mask(v_mask, "the mask of the value", steps)
        seen = both(seen, self._checked_mask(k_mask, "the mask of the key", steps))
        seen = None if seen is None else ops.expand_dims(seen, 1)
        drops = self._drops(training)
        plain = self._is_product and len(query.shape) == 3 and not return_attention_scores
        if plain and forms.fits(query, key, value):
            seen = None if seen is None else ops.expand_dims(seen, 1)
            q, k, v = (ops.expand_dims(x, 2) for x in (self._scaled(query), key, value))
            y, weights = ops.squeeze(forms.fused(q, k, v, seen, use_causal_mask, drops), 2), None
        else:
            if use_causal_mask:
                seen = both(seen, forms.lower(query.shape[1], value.shape[1], is_symbolic(query)))
            weights = forms.softmax(self.scores(query, key), seen)
            weights = weights if drops is None else ops.dropout(weights, drops[0], salt=drops[1])
            y = ops.matmul(weights, value)
        q_mask = self._checked_mask(q_mask, "the mask of the query", query.shape[:2])
        y = y if q_mask is None else ops.where(ops.expand_dims(q_mask, -1), y, 0.0)
        return [y, weights] if return_attention_scores else y


class AdditiveAttention(Attention):
    """Attention by the sum over the features of scale * tanh(query + key) (Bahdanau et al. 2015).  Called as Attention.

    Weights: scale [features] with `use_scale`.

    Args:
        use_scale: whether there is a scale.
        dropout: share of the attention that is dropped while training.
        seed: gives this layer masks of its own.

    >>> query, value = np.ones((2, 4, 8)), np.ones((2, 6, 8))
    >>> lf.layers.additive_attention().apply(query, value).shape
    (2, 4, 8)
    >>> hidden = [None, np.arange(6) < np.array([[6], [2]])]  # of the second value only two steps count
    >>> y, scores = lf.layers.additive_attention().apply([query, value], mask=hidden, return_attention_scores=True)
    >>> scores[1, 0].print()
    [0.5, 0.5, 0. , 0. , 0. , 0. ]
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, seed=seed, **kwargs)

    def build(self, input_shape):
        if self.use_scale:
            self.scale = self.add_weight("scale", (input_shape[0][-1],), None, "glorot_uniform")

    @property
    def _is_product(self) -> bool:
        return False

    def scores(self, query, key):
        added = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(self.scale * added if self.use_scale else added, -1)


def scale_of(features: int) -> float:
    """What keeps the scores of random vectors at a variance of one (Vaswani et al. 2017)."""
    return 1.0 / math.sqrt(features)


attention = factory(Attention)
additive_attention = factory(AdditiveAttention)
