"""`lf.linalg`: bands, orthogonal vectors, QR."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow.errors import TraceError
from layerflow.graph import symbolic
from layerflow.graph.ops import band_part, gram_schmidt
from layerflow.graph.tensor import wrap

__all__ = ["band_part", "gram_schmidt", "qr"]


def qr(x: Any, full_matrices: bool = False) -> tuple[Any, Any]:
    """(Q, R) of matrices [.., m, n]: orthogonal columns and an upper triangle whose product is x.

    Raises:
        TraceError: inside a graph.
    """
    if symbolic.is_symbolic(x):
        raise TraceError(
            "qr: the decomposition is LAPACK's, which compiled code does not call, and has no gradient; compute it "
            "outside of the graph, or use lf.linalg.gram_schmidt."
        )
    q, r = np.linalg.qr(np.asarray(x), "complete" if full_matrices else "reduced")
    return wrap(q), wrap(r)
