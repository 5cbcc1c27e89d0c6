"""Small real data sets: `digits` comes with the package, `mnist` reads files you have."""

from layerflow.datasets import digits, mnist

__all__ = ["digits", "mnist"]
