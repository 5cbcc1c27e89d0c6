"""`lf.data`: streams of examples that are made, changed and batched one at a time."""

from layerflow.data.csv_files import csv
from layerflow.data.dataset import Dataset
from layerflow.data.prefetching import Trace
from layerflow.data.reading import text_line
from layerflow.data.sources import array, func, generator, zip_
from layerflow.data.statistics import scale_to_01

zip = zip_

__all__ = ["Dataset", "Trace", "array", "csv", "func", "generator", "scale_to_01", "text_line", "zip"]
