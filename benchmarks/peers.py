"""The peers by name: the module beside this file that drives each, and how it is made.

A module has PACKAGES (distributions whose size on disk counts) and a class Peer(threads, **options), which imports the
library when it is made: the time that takes is measured.  A Peer has

    versions()                      names and versions
    train(spec, weights)            an object with stage(x, y) -> batch in the peer's own form (not timed),
                                    step(batch) -> handle, and wait(handle) -> loss of that batch before the update
    predict(spec, weights)          f(x) -> probabilities, NumPy to NumPy, by the call with least overhead
    predict_api(spec, weights)      the same by the highest-level call, if there is another
    fit(spec, weights, fast)        f(x, y, epochs) -> last loss, with shuffling; by the highest-level call, or (fast)
                                    by the fastest loop that a user can write
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

OURS = "layerflow"
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: ("layerflow_peer", {}),
    "torch": ("torch_peer", {}),
    "torch-compile": ("torch_peer", {"compiled": True}),
    "jax": ("jax_peer", {}),
    "keras-jax": ("keras_peer", {"backend": "jax"}),
    "keras-tf": ("keras_peer", {"backend": "tensorflow"}),
    "keras-tf-xla": ("keras_peer", {"backend": "tensorflow", "jit_compile": True}),
}
KEEPS_CODE = (OURS, "torch-compile")  # keeps compiled code on disk unasked: a second process measures a warm start


def module_of(name: str) -> tuple[ModuleType, dict[str, Any]]:
    """The module of a peer and the options of its Peer; imports no library."""
    module, options = PEERS[name]
    return importlib.import_module(f"benchmarks.{module}"), options
