"""Metrics."""

from layerflow.metrics.functions import *  # noqa: F403
from layerflow.metrics.functions import METRICS
