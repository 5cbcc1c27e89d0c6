"""Steps a second of the guides' Core API loop: `optimizer.minimize(lambda: loss)` on 784-32-10, batch 32, one thread.

python -m benchmarks.minimize                         # layerflow
PEERS/bin/python benchmarks/minimize.py jax           # JAX: the closure traced anew, and a jitted step

The best of several rounds is given, and the processor time of the same loop, which other programs disturb less.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np

BATCHES, ROUNDS = 50, 12


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    one_hot = np.eye(10, dtype=np.float32)
    return [(rng.standard_normal((32, 784), np.float32), one_hot[rng.integers(0, 10, 32)]) for _ in range(BATCHES)]


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal(s, np.float32) * 0.1 for s in ((784, 32), (32,), (32, 10), (10,))]


def measure(name: str, step: Callable[[np.ndarray, np.ndarray], object], rounds: int = ROUNDS) -> None:
    data = batches()
    for x, y in data[:3]:
        step(x, y)
    wall, cpu = float("inf"), float("inf")
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        for x, y in data:
            step(x, y)
        wall = min(wall, (time.perf_counter() - start) / len(data))
        cpu = min(cpu, (time.process_time() - used) / len(data))
    print(f"{name:38} {1 / wall:10,.0f} steps/s  {wall * 1e6:9.1f} us a step, {cpu * 1e6:9.1f} us of processor")


def layerflow() -> None:
    import layerflow as lf

    lf.set_num_threads(1)
    w1, b1, w2, b2 = map(lf.variable, weights())
    optimizer = lf.train.sgd(0.1)

    def model(x):
        return x.mat_mul(w1).add(b1).relu().mat_mul(w2).add(b2)

    def step(xs, ys):
        xs, ys = lf.tensor(xs), lf.tensor(ys)
        optimizer.minimize(lambda: lf.losses.softmax_cross_entropy(ys, model(xs)))

    measure("layerflow minimize(closure)", step, 40)
    batch = batches()[0]
    compiled = lf.sequential([lf.layers.dense(32, "relu", input_shape=[784]), lf.layers.dense(10, "softmax")])
    compiled.compile(optimizer=lf.train.sgd(0.1), loss="categoricalCrossentropy")
    compiled.train_on_batch(*batch)
    measure("layerflow train_on_batch, for comparison", compiled.train_on_batch, 40)


def jax() -> None:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax  # type: ignore[import-not-found]
    import jax.numpy as jnp  # type: ignore[import-not-found]

    def loss(params, x, y):
        w1, b1, w2, b2 = params
        logits = jnp.maximum(x @ w1 + b1, 0) @ w2 + b2
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(logits), -1))

    def update(params, x, y):
        return [p - 0.1 * g for p, g in zip(params, jax.grad(loss)(params, x, y), strict=True)]

    state = [jnp.asarray(w) for w in weights()]

    def run(function: Callable) -> Callable:
        def step(x, y):
            state[:] = function(state, x, y)
            jax.block_until_ready(state)

        return step

    measure("JAX jitted step (arguments)", run(jax.jit(update, donate_argnums=0)), 40)
    measure("JAX closure, value_and_grad each time", run(update), 3)

    def retraced(params, x, y):
        return jax.jit(lambda p: update(p, x, y))(params)

    measure("JAX closure in jit each time", run(retraced), 1)


if __name__ == "__main__":
    jax() if "jax" in sys.argv[1:] else layerflow()
