"""`lf.data`: streams of examples that are made, changed and batched one at a time."""

from layerflow.data.dataset import Dataset, array, generator, zip_

zip = zip_

__all__ = ["Dataset", "array", "generator", "zip"]
