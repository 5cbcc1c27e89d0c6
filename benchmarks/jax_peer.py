"""JAX: plain functions, one jitted step that donates its buffers, updates written by hand."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable
from typing import Any

from benchmarks.workloads import Spec

PACKAGES = ["jax", "jaxlib", "numpy"]


class Peer:
    def __init__(self, threads: int):
        self.jax: Any = importlib.import_module("jax")
        self.jnp = self.jax.numpy
        self.jnp.zeros(1).block_until_ready()  # starts the CPU client: part of the import

    def versions(self) -> dict[str, str]:
        return {"jax": self.jax.__version__}

    # --- model -----------------------------------------------------------------

    def layer(self, described: Spec, p: list[Any], s: list[Any], x: Any, key: Any) -> tuple[Any, list[Any]]:
        """Output before the activation, and the moving statistics; `key` is None unless training."""
        jax, jnp, lax = self.jax, self.jnp, self.jax.lax
        match described["kind"]:
            case "dense":
                return x @ p[0] + p[1], s
            case "conv":
                layout = ("NHWC", "HWIO", "NHWC")
                x = lax.conv_general_dilated(x, p[0], (1, 1), described["pad"].upper(), dimension_numbers=layout)
                return (x + p[1] if described["bias"] else x), s
            case "bn":
                mean, var = s
                if key is not None:
                    mean, var, m = x.mean((0, 1, 2)), x.var((0, 1, 2)), described["momentum"]
                    s = [m * s[0] + (1 - m) * mean, m * s[1] + (1 - m) * var]
                return (x - mean) * (lax.rsqrt(var + described["eps"]) * p[0]) + p[1], s
            case "maxpool":
                (n, h, w, c), k = x.shape, described["size"]
                return x.reshape(n, h // k, k, w // k, k, c).max((2, 4)), s
            case "flatten":
                return x.reshape(x.shape[0], -1), s
            case "dropout" if key is not None:
                keep = 1 - described["rate"]
                return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0), s
            case "gap":
                return x.mean(tuple(range(1, x.ndim - 1))), s
        return self.sequence_layer(described, p, x, key is not None), s

    def sequence_layer(self, described: Spec, p: list[Any], x: Any, training: bool) -> Any:
        """A layer for [batch, steps, features]; any other kind gives `x`."""
        jax, jnp = self.jax, self.jax.numpy
        match described["kind"]:
            case "ln":
                centred = x - x.mean(-1, keepdims=True)
                spread = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + described["eps"])
                return centred * spread * p[0] + p[1]
            case "attention":
                q, k, v = (jnp.einsum("bsf,fhd->bshd", x, p[i]) + p[i + 1] for i in (0, 2, 4))
                score = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
                found = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(score), v)
                return x + jnp.einsum("bqhd,hdf->bqf", found, p[6]) + p[7]
            case "feed":
                return x + jnp.maximum(x @ p[0] + p[1], 0) @ p[2] + p[3]
            case "lstm":
                return self.recurrent(self.lstm_step, 2, x @ p[0] + p[2], p, training)
            case "gru":
                return self.recurrent(self.gru_step, 1, x @ p[0] + p[2][0], p, training)
        return x

    def recurrent(self, step: Callable[..., Any], states: int, projected: Any, p: list[Any], training: bool) -> Any:
        """The output after the last step; the inputs of all steps have been multiplied by the kernel at once.

        Unrolled the scan predicts faster here, and trains more slowly.
        """
        first = (self.jnp.zeros((len(projected), len(p[1]))),) * states
        steps = projected.swapaxes(0, 1)
        return self.jax.lax.scan(lambda s, z: (step(s, z, p), None), first, steps, unroll=not training)[0][0]

    def lstm_step(self, states: Any, z: Any, p: list[Any]) -> Any:
        sigmoid, tanh = self.jax.nn.sigmoid, self.jnp.tanh
        i, f, g, o = self.jnp.split(z + states[0] @ p[1], 4, axis=1)
        c = sigmoid(f) * states[1] + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def gru_step(self, states: Any, z: Any, p: list[Any]) -> Any:
        sigmoid, (h,) = self.jax.nn.sigmoid, states
        update, reset, candidate = self.jnp.split(z, 3, axis=1)
        from_update, from_reset, from_state = self.jnp.split(h @ p[1] + p[2][1], 3, axis=1)
        keep = sigmoid(update + from_update)
        new = self.jnp.tanh(candidate + sigmoid(reset + from_reset) * from_state)
        return (keep * h + (1 - keep) * new,)

    def forward(
        self, layers: list[Spec], params: list[Any], state: list[Any], x: Any, key: Any
    ) -> tuple[Any, list[Any]]:
        """Logits (or the regression's output) and the new moving statistics."""
        new = []
        for i, (described, p, s) in enumerate(zip(layers, params, state, strict=True)):
            x, s = self.layer(described, p, s, x, None if key is None else self.jax.random.fold_in(key, i))
            if described["kind"] == "relu" or described.get("act") == "relu":
                x = self.jnp.maximum(x, 0)
            new.append(s)
        return x, new

    def split(self, spec: Spec, weights: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        """Trained parameters and moving statistics, for each layer."""
        params, state = [], []
        for described, arrays in zip(spec["layers"], weights, strict=True):
            own = [self.jnp.array(w) for w in arrays]
            cut = 2 if described["kind"] == "bn" else len(own)
            params.append(own[:cut])
            state.append(own[cut:])
        return params, state

    # --- training --------------------------------------------------------------

    def updater(self, o: Spec) -> Callable[..., tuple[Any, Any]]:
        """update(params, gradients, slots, step) -> new params and slots; slots are two copies of the params."""
        jnp, tmap = self.jnp, self.jax.tree_util.tree_map

        def sgd(params: Any, grads: Any, slots: Any, t: Any) -> tuple[Any, Any]:
            if o["momentum"]:
                grads = tmap(lambda v, g: o["momentum"] * v + g, slots[0], grads)
                slots = (grads,)
            return tmap(lambda p, g: p - o["lr"] * g, params, grads), slots

        def adam(params: Any, grads: Any, slots: Any, t: Any) -> tuple[Any, Any]:
            b1, b2 = o["beta1"], o["beta2"]
            m = tmap(lambda m, g: b1 * m + (1 - b1) * g, slots[0], grads)
            v = tmap(lambda v, g: b2 * v + (1 - b2) * g * g, slots[1], grads)
            n = (t + 1).astype(jnp.float32)
            rate = o["lr"] * jnp.sqrt(1 - b2**n) / (1 - b1**n)
            return tmap(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + o["eps"]), params, m, v), (m, v)

        return adam if o["kind"] == "adam" else sgd

    def init_step(self, spec: Spec, weights: list[list[Any]]) -> tuple[Any, Callable[..., Any]]:
        """The first carry (params, slots, moving statistics, step) and step(carry, x, y) -> carry, loss."""
        jax, jnp, o, layers = self.jax, self.jnp, spec["optimizer"], spec["layers"]
        key, update = jax.random.key(0), self.updater(o)
        params, state = self.split(spec, weights)
        count = 2 if o["kind"] == "adam" else int(o["momentum"] > 0)
        slots = tuple(jax.tree_util.tree_map(jnp.zeros_like, params) for _ in range(count))

        def loss_of(params: Any, state: Any, x: Any, y: Any, t: Any) -> tuple[Any, Any]:
            out, state = self.forward(layers, params, state, x, jax.random.fold_in(key, t))
            if spec["classes"]:
                return -(y * jax.nn.log_softmax(out)).sum(1).mean(), state
            return ((out - y) ** 2).mean(), state

        def step(carry: Any, x: Any, y: Any) -> tuple[Any, Any]:
            params, slots, state, t = carry
            (loss, state), grads = jax.value_and_grad(loss_of, has_aux=True)(params, state, x, y, t)
            params, slots = update(params, grads, slots, t)
            return (params, slots, state, t + 1), loss

        return (params, slots, state, jnp.array(0, jnp.int32)), step

    def train(self, spec: Spec, weights: list[list[Any]]) -> types.SimpleNamespace:
        carry, step = self.init_step(spec, weights)
        jitted = self.jax.jit(step, donate_argnums=0)

        def run(batch: Any) -> Any:
            nonlocal carry
            carry, loss = jitted(carry, *batch)
            return loss

        return types.SimpleNamespace(stage=lambda x, y: (self.jnp.array(x), self.jnp.array(y)), step=run, wait=float)

    def predict(self, spec: Spec, weights: list[list[Any]]) -> Callable[[Any], Any]:
        import numpy as np

        params, state = self.split(spec, weights)

        def forward(params: Any, state: Any, x: Any) -> Any:
            out = self.forward(spec["layers"], params, state, x, None)[0]
            return self.jax.nn.softmax(out) if spec["classes"] else out

        jitted = self.jax.jit(forward)
        return lambda x: np.asarray(jitted(params, state, x))

    def fit(self, spec: Spec, weights: list[list[Any]], fast: bool) -> Callable[..., float]:
        """There is no high-level call: a loop over shuffled NumPy rows.  Fast: an epoch is one jitted lax.scan."""
        import numpy as np

        jax, n, rng = self.jax, spec["batch"], np.random.default_rng(0)
        carry, step = self.init_step(spec, weights)
        jitted = jax.jit(step, donate_argnums=0)

        def scan(carry: Any, x: Any, y: Any, order: Any) -> Any:
            return jax.lax.scan(lambda carry, at: step(carry, x[at], y[at]), carry, order)

        scanned = jax.jit(scan, donate_argnums=0)

        def fit(x: Any, y: Any, epochs: int) -> float:
            nonlocal carry
            loss: Any = None
            if fast:
                x, y = self.jnp.array(x), self.jnp.array(y)
            for _ in range(epochs):
                order, done = rng.permutation(len(x)), 0
                if fast:
                    done = len(x) // n * n
                    carry, losses = scanned(carry, x, y, order[:done].reshape(-1, n))
                    loss = losses[-1]
                for i in range(done, len(x), n):
                    carry, loss = jitted(carry, x[order[i : i + n]], y[order[i : i + n]])
            return float(loss)

        return fit
