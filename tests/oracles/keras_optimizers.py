"""Writes data/keras_optimizers.npz: what Keras 3's optimizers and schedules do, for tests/test_keras_optimizers.py.

Run with an environment that has Keras and JAX: `KERAS_BACKEND=jax python tests/oracles/keras_optimizers.py`.
"""

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

STEPS = 10
SHAPES = [(3, 4), (5,), (2, 3, 2)]
OUT = Path(__file__).parent / "data" / "keras_optimizers.npz"


def schedule(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


EXPONENTIAL = schedule("ExponentialDecay", initial_learning_rate=0.1, decay_steps=3, decay_rate=0.5)
WARM = schedule("CosineDecay", initial_learning_rate=0.0, decay_steps=5, alpha=0.1, warmup_target=0.1, warmup_steps=3)
STEPWISE = schedule("PiecewiseConstantDecay", boundaries=[2, 5], values=[0.1, 0.05, 0.01])

# (class, arguments); "exclude" is for exclude_from_weight_decay(var_names=...), "constraint" is one of the weights.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("SGD", {"learning_rate": 0.1, "clipnorm": 0.5}),
    ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.5}),
    ("SGD", {"learning_rate": 0.1, "clipvalue": 0.3}),
    ("SGD", {"learning_rate": EXPONENTIAL, "momentum": 0.5}),
    ("SGD", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.8}),
    ("SGD", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}),
    ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "gradient_accumulation_steps": 3}),
    ("SGD", {"learning_rate": STEPWISE, "gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.7}),
    ("SGD", {"learning_rate": 0.2, "constraint": {"class_name": "NonNeg", "config": {}}}),
    ("SGD", {"learning_rate": 0.2, "constraint": {"class_name": "MaxNorm", "config": {"max_value": 0.7, "axis": 0}}}),
    ("RMSprop", {}),
    ("RMSprop", {"learning_rate": 0.02, "rho": 0.8, "momentum": 0.5, "epsilon": 1e-5}),
    ("RMSprop", {"learning_rate": 0.02, "centered": True, "weight_decay": 0.1, "clipnorm": 1.0}),
    ("RMSprop", {"learning_rate": EXPONENTIAL, "global_clipnorm": 1.0, "use_ema": True}),
    ("Adam", {}),
    ("Adam", {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "amsgrad": True}),
    ("Adam", {"learning_rate": 0.05, "weight_decay": 0.2, "exclude": ["w1"], "global_clipnorm": 0.7}),
    ("Adam", {"learning_rate": WARM, "clipvalue": 0.5}),
    ("Adam", {"learning_rate": WARM, "gradient_accumulation_steps": 4, "clipnorm": 0.5, "weight_decay": 0.1}),
    ("Adam", {"learning_rate": 0.1, "gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2}),
    ("AdamW", {}),
    ("AdamW", {"learning_rate": 0.05, "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", {"learning_rate": STEPWISE, "weight_decay": 0.1, "exclude": ["w0", "w2"], "use_ema": True}),
    ("Adamax", {}),
    ("Adamax", {"learning_rate": 0.05, "beta_1": 0.7, "beta_2": 0.9, "clipvalue": 0.4}),
    ("Adamax", {"learning_rate": EXPONENTIAL, "weight_decay": 0.1, "gradient_accumulation_steps": 2}),
    ("Nadam", {}),
    ("Nadam", {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-4, "clipnorm": 0.8}),
    ("Nadam", {"learning_rate": WARM, "weight_decay": 0.1, "gradient_accumulation_steps": 3}),
    ("Adagrad", {}),
    ("Adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}),
    ("Adagrad", {"learning_rate": EXPONENTIAL, "clipnorm": 0.5, "use_ema": True, "ema_overwrite_frequency": 4}),
    ("Adadelta", {}),
    ("Adadelta", {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-4, "global_clipnorm": 0.8}),
    ("Adadelta", {"learning_rate": STEPWISE, "weight_decay": 0.2, "gradient_accumulation_steps": 2}),
    ("Lion", {}),
    ("Lion", {"learning_rate": 0.05, "beta_1": 0.7, "beta_2": 0.9, "weight_decay": 0.3}),
    ("Lion", {"learning_rate": EXPONENTIAL, "gradient_accumulation_steps": 2, "use_ema": True, "ema_momentum": 0.5}),
    ("Ftrl", {}),
    ("Ftrl", {"learning_rate": 0.1, "l1_regularization_strength": 0.2, "l2_regularization_strength": 0.1}),
    (
        "Ftrl",
        {
            "learning_rate": 0.1,
            "learning_rate_power": -0.7,
            "initial_accumulator_value": 0.5,
            "l2_shrinkage_regularization_strength": 0.1,
            "beta": 0.3,
        },
    ),
    ("Ftrl", {"learning_rate": STEPWISE, "clipvalue": 0.5, "use_ema": True}),
    ("Adafactor", {}),
    ("Adafactor", {"learning_rate": 0.3, "beta_2_decay": -0.6, "epsilon_2": 0.1, "clip_threshold": 0.5}),
    ("Adafactor", {"learning_rate": EXPONENTIAL, "weight_decay": 0.2, "gradient_accumulation_steps": 2}),
    ("Adafactor", {"learning_rate": 0.9, "relative_step": False, "clipnorm": 0.5}),
    ("Lamb", {}),
    ("Lamb", {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-4, "weight_decay": 0.2}),
    ("Lamb", {"learning_rate": WARM, "global_clipnorm": 0.5, "use_ema": True, "ema_overwrite_frequency": 5}),
    ("Muon", {}),
    ("Muon", {"learning_rate": 0.05, "nesterov": False, "ns_steps": 3, "rms_rate": None, "adam_lr_ratio": 0.5}),
    ("Muon", {"learning_rate": EXPONENTIAL, "exclude_layers": ["w0"], "adam_weight_decay": 0.2, "momentum": 0.8}),
]

# (configuration, steps at which it is read), not where rounding decides on which side of a jump a step is.
SCHEDULES: list[tuple[dict[str, Any], list[int]]] = [
    (EXPONENTIAL, [0, 1, 2, 3, 10]),
    (
        schedule("ExponentialDecay", initial_learning_rate=0.1, decay_steps=4, decay_rate=0.5, staircase=True),
        [0, 3, 4, 5, 9, 100],
    ),
    (schedule("InverseTimeDecay", initial_learning_rate=0.1, decay_steps=4, decay_rate=0.5), [0, 1, 4, 7, 1000]),
    (
        schedule("InverseTimeDecay", initial_learning_rate=0.1, decay_steps=4, decay_rate=2.0, staircase=True),
        [0, 3, 4, 9],
    ),
    (STEPWISE, [0, 1, 2, 3, 5, 6, 100]),
    (schedule("PolynomialDecay", initial_learning_rate=0.1, decay_steps=10), [0, 1, 5, 10, 11, 100]),
    (
        schedule(
            "PolynomialDecay", initial_learning_rate=0.1, decay_steps=10, end_learning_rate=0.02, power=2.5, cycle=True
        ),
        [0, 1, 9, 10, 11, 20, 21, 35],
    ),
    (WARM, [0, 1, 2, 3, 4, 7, 8, 9, 100]),
    (schedule("CosineDecay", initial_learning_rate=0.1, decay_steps=10, alpha=0.2), [0, 1, 5, 10, 11]),
    (schedule("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=10), [0, 1, 9, 11, 29, 31, 69, 71]),
    (
        schedule(
            "CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=10, t_mul=1.0, m_mul=0.8, alpha=0.1
        ),
        [0, 5, 9, 11, 25, 39],
    ),
    (
        schedule("CosineDecayRestarts", initial_learning_rate=0.1, first_decay_steps=7, t_mul=1.5, m_mul=0.5),
        [0, 6, 8, 17, 18, 33, 34],
    ),
]


def main() -> None:
    import keras  # pyright: ignore[reportMissingImports]
    import numpy as np

    rng = np.random.default_rng(7)
    starts = [rng.normal(0, 0.5, shape).astype(np.float32) for shape in SHAPES]
    gradients = [rng.normal(0, 0.6, (STEPS, *shape)).astype(np.float32) for shape in SHAPES]
    arrays = {f"start_{i}": w for i, w in enumerate(starts)} | {f"gradient_{i}": g for i, g in enumerate(gradients)}
    for number, (name, given) in enumerate(CASES):
        arguments = dict(given)
        constraint, excluded = arguments.pop("constraint", None), arguments.pop("exclude", None)
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = keras.optimizers.schedules.deserialize(arguments["learning_rate"])
        optimizer = getattr(keras.optimizers, name)(**arguments)
        if excluded:
            optimizer.exclude_from_weight_decay(var_names=excluded)
        weights = []
        for i, start in enumerate(starts):
            weight = keras.Variable(start, name=f"w{i}")
            weight.constraint = keras.constraints.get(constraint)
            weights.append(weight)
        path = [[] for _ in weights]
        for step in range(STEPS):
            optimizer.apply([keras.ops.convert_to_tensor(g[step]) for g in gradients], weights)
            for kept, weight in zip(path, weights, strict=True):
                kept.append(np.asarray(weight))
        optimizer.finalize_variable_values(weights)
        for i, (kept, weight) in enumerate(zip(path, weights, strict=True)):
            arrays[f"path_{number}_{i}"] = np.stack([*kept, np.asarray(weight)])
    for number, (described, steps) in enumerate(SCHEDULES):
        made = keras.optimizers.schedules.deserialize(described)
        arrays[f"rates_{number}"] = np.array([float(made(step)) for step in steps], np.float32)
    about = {"keras": keras.__version__, "backend": keras.backend.backend(), "cases": CASES, "schedules": SCHEDULES}
    arrays["about"] = np.array(json.dumps(about))
    np.savez_compressed(OUT, **arrays)  # pyright: ignore[reportArgumentType]
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
