"""Functions that NumPy lacks, for kernels run on arrays; compiled code has its own versions of the same names."""

from __future__ import annotations

import math

import numpy as np

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x):
    """The error function, elementwise."""
    return np.asarray(_erf(x)).astype(np.result_type(x, np.float32), copy=False)
