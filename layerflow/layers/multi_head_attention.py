"""Attention of several heads (Vaswani et al. 2017).  Arguments, defaults and weights: Keras 3 (INVENTORY 2.8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.ops import attention as forms
from layerflow.graph.shapes import multiply, text
from layerflow.layers.attention import Attending, as_mask, both, scale_of
from layerflow.layers.core import positive_integer, share
from layerflow.layers.signatures import as_list
from layerflow.layers.spatial import keep_settings, make_weight
from layerflow.layers.unknown_extents import need_known
from layerflow.registry import factory


class HeadedAttention(Attending):
    """Base: projections of query, key and value to heads, attention in each, and a projection of what they give."""

    heads: int  # of the query
    shared: int  # of key and value; each serves heads / shared of the query's
    depth: int  # features of a head of query and key
    value_depth: int
    flash_attention: bool | None
    attention_output_kernel: Any
    attention_output_bias: Any

    def _keep(self, dropout: float, use_bias: bool, seed: int | None, settings: Sequence[Any]) -> None:
        self.dropout, self.use_bias, self.seed = share(self, "dropout", dropout, whole=False), bool(use_bias), seed
        kernel, bias = settings[:3], settings[3:]
        keep_settings(self, "kernel", *kernel, default="glorot_uniform")
        keep_settings(self, "bias", *bias)
        self.partial_output_shape: tuple[int, ...] | None = None
        self.attention_axes: tuple[int, ...] | None = None

    def build(self, input_shape):
        query, value, *rest = input_shape
        key = rest[0] if rest else value
        kinds = (
            ("query", query, self.heads, self.depth),
            ("key", key, self.shared, self.depth),
            ("value", value, self.shared, self.value_depth),
        )
        for name, shape, heads, depth in kinds:
            if shape[-1] is None:
                raise ShapeError(f"{self.name}: the features of the {name}, {text(shape)}, must be known.")
            self._make(name, (shape[-1],), (heads, depth))
        self._make("attention_output", (self.heads, self.value_depth), self._output_of(query))

    def _output_of(self, query: Sequence[Any]) -> tuple[int, ...]:
        return self.partial_output_shape or (int(query[-1]),)

    def _make(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        setattr(self, f"{name}_kernel", make_weight(self, f"{name}/kernel", (*inputs, *outputs), "kernel"))
        if self.use_bias:
            setattr(self, f"{name}_bias", make_weight(self, f"{name}/bias", outputs, "bias"))

    def call(
        self,
        inputs,
        mask=None,
        attention_mask=None,
        return_attention_scores=False,
        use_causal_mask=False,
        training=False,
    ):
        query, value, *rest = inputs
        key = rest[0] if rest else value
        output = self._output_of(query.shape)
        need_known(self.name, *inputs)
        self._axes(len(query.shape))
        seen = self._seen(inputs, mask, attention_mask)
        q = self._projected("query", self._in_rows(query), self.heads, scale_of(self.depth))
        k = self._projected("key", self._in_rows(key), self.shared)
        v = self._projected("value", self._in_rows(value), self.shared)
        given, weights = (q, k, v, seen, use_causal_mask, self._drops(training)), None
        if not return_attention_scores and forms.fits(q, k, v, self.flash_attention):
            y = forms.fused(*given)
        else:
            y, weights = forms.stored(*given)
        lead = ops.shape_of(y)[:2]
        y = ops.reshape(y, (*lead, self.heads * self.value_depth))
        kernel = ops.reshape(self.attention_output_kernel, (-1, math.prod(output)))
        y = self._out_of_rows(ops.matmul(y, kernel), query)
        y = ops.reshape(y, (*ops.shape_of(query)[:-1], *output))
        y = y + self.attention_output_bias if self.use_bias else y
        return [y, weights] if return_attention_scores else y

    def _projected(self, name: str, x: Any, heads: int, scale: float = 1.0) -> Any:
        """[batch, steps, heads, depth]."""
        kernel = getattr(self, f"{name}_kernel")
        depth = kernel.shape[-1]
        y = ops.matmul(x, ops.reshape(kernel, (kernel.shape[0], heads * depth)))
        if self.use_bias:
            y = y + ops.reshape(getattr(self, f"{name}_bias"), (heads * depth,))
        return ops.reshape(y if scale == 1.0 else y * scale, (*ops.shape_of(y)[:2], heads, depth))

    # Axes: attention goes along some of them; the others count as examples.

    def _axes(self, rank: int) -> tuple[list[int], list[int]]:
        """(axes of examples besides the batch, axes of attention)."""
        wanted = self.attention_axes or tuple(range(1, rank - 1))
        over = [a % rank for a in wanted]
        if any(not 1 <= a <= rank - 2 for a in over) or len(set(over)) != len(over):
            raise ShapeError(
                f"{self.name}: attention_axes {list(wanted)} are no axes of steps of inputs of {rank} axes; "
                f"choose from 1 to {rank - 2}."
            )
        return [a for a in range(1, rank - 1) if a not in over], over

    def _in_rows(self, x: Any) -> Any:
        """[examples, steps, features]."""
        apart, over = self._axes(len(x.shape))
        if len(x.shape) == 3:
            return x
        shape = ops.shape_of(x)
        lead = multiply(shape[0], math.prod(x.shape[a] for a in apart))
        moved = ops.transpose(x, (0, *apart, *over, len(shape) - 1)) if apart else x
        return ops.reshape(moved, (lead, math.prod(x.shape[a] for a in over), x.shape[-1]))

    def _out_of_rows(self, y: Any, query: Any) -> Any:
        """What `_in_rows` did to the query undone."""
        apart, over = self._axes(len(query.shape))
        if len(query.shape) == 3 or not apart:
            return y
        order, shape = [0, *apart, *over], ops.shape_of(query)
        y = ops.reshape(y, (*(shape[a] for a in order), y.shape[-1]))
        return ops.transpose(y, (*(order.index(a) for a in range(len(order))), len(order)))

    # Masks

    def _seen(self, inputs: list[Any], mask: Any, attention_mask: Any) -> Any:
        """What heads may see, ready to be used with scores [examples, heads, steps, steps]; None is everything."""
        query, value = inputs[:2]
        masks, plain = self._masks(mask), len(query.shape) == 3
        if not plain and any(m is not None for m in (*masks, attention_mask)):
            raise ShapeError(f"{self.name}: masks need inputs of [batch, steps, features], got {text(query.shape)}.")
        rows, columns = (math.prod(x.shape[a] for a in self._axes(len(x.shape))[1]) for x in (query, value))
        found = None
        kinds = (("query", -1, rows), ("value", 1, columns), ("key", 1, columns))
        for given, (what, axis, steps) in zip(masks, kinds, strict=True):
            each = self._checked_mask(given, f"the mask of the {what}", (query.shape[0], steps))
            found = both(found, None if each is None else ops.expand_dims(each, axis))
        if attention_mask is not None and len(attention_mask.shape) == 2:
            attention_mask = ops.expand_dims(as_mask(attention_mask), 0)
        given = self._checked_mask(attention_mask, "attention_mask", (query.shape[0], rows, columns))
        if given is not None and len(given.shape) == 4:
            return both(None if found is None else ops.expand_dims(found, 1), given)
        found = both(found, given)
        return None if found is None else ops.expand_dims(found, 1)


class MultiHeadAttention(HeadedAttention):
    """softmax(query key' / sqrt(key_dim)) value in `num_heads` heads, each with projections of its own.

    Called with [query, value], [query, value, key] or query, value, key of [batch, steps, features]; `attention_mask`
    [batch, query steps, value steps] is True where attention may go, `use_causal_mask` hides later steps, and with
    `return_attention_scores` the result is a list of the output and the attention [batch, heads, steps, steps].

    Weights, in this order: query, key and value kernels [features, heads, dim] and biases [heads, dim],
    attention_output kernel [heads, value_dim, features], bias [features].

    Args:
        num_heads: heads.
        key_dim: features of query and key in a head.
        value_dim: of the value; key_dim unless given.
        dropout: share of the attention that is dropped while training.
        use_bias: whether projections have biases.
        output_shape: features of the output; those of the query unless given.
        attention_axes: axes of steps along which attention goes; all unless given.
        flash_attention: whether the scores are not stored; None: where they are large, as `lf.config.fused_attention`
            says.  Dropout and masks count in both forms; with `return_attention_scores` scores are always stored.
        seed: gives this layer masks of its own.

    >>> x = lf.input(shape=[None, 16])
    >>> attended = lf.layers.multi_head_attention(num_heads=4, key_dim=4).apply(x, x, use_causal_mask=True)
    >>> y = lf.layers.layer_normalization().apply(lf.layers.add([x, attended]))
    >>> lf.model(inputs=x, outputs=y).predict(np.ones((2, 7, 16))).shape
    (2, 7, 16)
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        flash_attention: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.heads = self.shared = self.num_heads = positive_integer(self, "num_heads", num_heads)
        self.depth = self.key_dim = positive_integer(self, "key_dim", key_dim)
        self.value_dim = positive_integer(self, "value_dim", key_dim if value_dim is None else value_dim)
        self.value_depth = self.value_dim
        kernel = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self._keep(dropout, use_bias, seed, [*kernel, bias_initializer, bias_regularizer, bias_constraint])
        self.flash_attention = flash_attention
        if output_shape is not None:
            self.partial_output_shape = tuple(positive_integer(self, "output_shape", n) for n in as_list(output_shape))
        self.attention_axes = None if attention_axes is None else tuple(int(a) for a in as_list(attention_axes))


class GroupQueryAttention(HeadedAttention):
    """Multi-head attention whose key and value have fewer heads, each for several of the query's (Ainslie et al. 2023).

    Arguments of the call and weights as for MultiHeadAttention.

    Args:
        head_dim: features of a head.
        num_query_heads: heads of the query.
        num_key_value_heads: heads of key and value; they must divide the query's.
        dropout, use_bias, flash_attention, seed: as for MultiHeadAttention.

    >>> x = np.ones((2, 7, 16))
    >>> layer = lf.layers.group_query_attention(head_dim=4, num_query_heads=4, num_key_value_heads=2)
    >>> layer.apply(x, x).shape
    (2, 7, 16)
    >>> layer.key_kernel.shape  # two heads, not four
    (16, 2, 4)
    """

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        flash_attention: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.depth = self.value_depth = self.head_dim = positive_integer(self, "head_dim", head_dim)
        self.heads = self.num_query_heads = positive_integer(self, "num_query_heads", num_query_heads)
        self.shared = self.num_key_value_heads = positive_integer(self, "num_key_value_heads", num_key_value_heads)
        if self.heads % self.shared:
            raise ArgumentError(
                f"{self.name}: {self.heads} query heads do not divide into {self.shared} groups, one for each head of "
                "key and value. Choose num_key_value_heads that divides num_query_heads."
            )
        kernel = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self._keep(dropout, use_bias, seed, [*kernel, bias_initializer, bias_regularizer, bias_constraint])
        self.flash_attention = flash_attention


multi_head_attention = factory(MultiHeadAttention)
group_query_attention = factory(GroupQueryAttention)
