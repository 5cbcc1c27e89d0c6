"""The losses and metrics that are compared with Keras: name, arguments, and what their data look like."""

from __future__ import annotations

from typing import Any

import numpy as np

BATCHES = 3
ROWS = 12


def _logits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 2, shape).astype(np.float32)


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def _one_hot(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.eye(shape[-1], dtype=np.float32)[rng.integers(0, shape[-1], shape[:-1])]


# kind of data -> (y_true, y_pred) of one batch
DATA = {
    "numbers": lambda r: (_logits(r, ROWS, 3), _logits(r, ROWS, 3)),
    "column": lambda r: (_logits(r, ROWS, 1), _logits(r, ROWS, 1)),
    "positive": lambda r: (np.abs(_logits(r, ROWS, 3)) + 0.1, np.abs(_logits(r, ROWS, 3)) + 0.1),
    "classes": lambda r: (_one_hot(r, ROWS, 5), _softmax(_logits(r, ROWS, 5))),
    "class_logits": lambda r: (_one_hot(r, ROWS, 5), _logits(r, ROWS, 5)),
    "image_classes": lambda r: (_one_hot(r, ROWS, 2, 3, 4), _softmax(_logits(r, ROWS, 2, 3, 4))),
    "distributions": lambda r: (_softmax(_logits(r, ROWS, 5)), _softmax(_logits(r, ROWS, 5))),
    "sparse": lambda r: (r.integers(0, 5, (ROWS, 1)).astype(np.float32), _softmax(_logits(r, ROWS, 5))),
    "flat": lambda r: (r.integers(0, 5, ROWS).astype(np.float32), _softmax(_logits(r, ROWS, 5))),
    "sparse_logits": lambda r: (r.integers(0, 5, (ROWS, 1)).astype(np.float32), _logits(r, ROWS, 5)),
    "binary": lambda r: (r.integers(0, 2, (ROWS, 1)).astype(np.float32), _sigmoid(_logits(r, ROWS, 1))),
    "binary_logits": lambda r: (r.integers(0, 2, (ROWS, 1)).astype(np.float32), _logits(r, ROWS, 1)),
    "labels": lambda r: (r.integers(0, 2, (ROWS, 4)).astype(np.float32), _sigmoid(_logits(r, ROWS, 4))),
    "signs": lambda r: (2.0 * r.integers(0, 2, (ROWS, 1)).astype(np.float32) - 1, _logits(r, ROWS, 1)),
    "ids": lambda r: (r.integers(0, 4, (ROWS, 3)).astype(np.float32), r.integers(0, 4, (ROWS, 3)).astype(np.float32)),
    "edges": lambda r: (
        r.integers(0, 2, (ROWS, 1)).astype(np.float32),
        r.choice(np.array([0, 0.25, 0.5, 0.75, 1], np.float32), (ROWS, 1)),
    ),
}

Case = tuple[str, dict[str, Any], str]

LOSSES: list[Case] = [
    ("MeanSquaredError", {}, "numbers"),
    ("MeanSquaredError", {"reduction": "sum"}, "numbers"),
    ("MeanSquaredError", {"reduction": "none"}, "numbers"),
    ("MeanAbsoluteError", {"reduction": "mean_with_sample_weight"}, "numbers"),
    ("MeanAbsolutePercentageError", {}, "positive"),
    ("MeanSquaredLogarithmicError", {}, "positive"),
    ("Huber", {"delta": 0.7}, "numbers"),
    ("LogCosh", {}, "numbers"),
    ("Hinge", {}, "signs"),
    ("Hinge", {}, "binary_logits"),
    ("SquaredHinge", {}, "binary_logits"),
    ("CategoricalHinge", {}, "classes"),
    ("KLDivergence", {}, "distributions"),
    ("Poisson", {}, "positive"),
    ("CosineSimilarity", {}, "numbers"),
    ("CosineSimilarity", {"axis": 1}, "image_classes"),
    ("BinaryCrossentropy", {}, "labels"),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, "binary_logits"),
    ("BinaryFocalCrossentropy", {"gamma": 1.5, "label_smoothing": 0.1}, "labels"),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True, "from_logits": True}, "binary_logits"),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "classes"),
    ("CategoricalCrossentropy", {"from_logits": True, "reduction": "mean_with_sample_weight"}, "class_logits"),
    ("CategoricalCrossentropy", {"axis": 1}, "image_classes"),
    ("CategoricalFocalCrossentropy", {"alpha": 0.5, "gamma": 1.0}, "classes"),
    ("CategoricalFocalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "class_logits"),
    ("SparseCategoricalCrossentropy", {}, "sparse"),
    ("SparseCategoricalCrossentropy", {"from_logits": True, "ignore_class": 2}, "sparse_logits"),
    ("CategoricalGeneralizedCrossEntropy", {"q": 0.7}, "flat"),
    ("Dice", {}, "labels"),
    ("Dice", {"axis": [1]}, "labels"),
    ("Tversky", {"alpha": 0.3, "beta": 0.7, "axis": [1]}, "labels"),
]
METRICS: list[Case] = [
    ("MeanSquaredError", {}, "numbers"),
    ("RootMeanSquaredError", {}, "numbers"),
    ("MeanAbsoluteError", {}, "column"),
    ("MeanAbsolutePercentageError", {}, "positive"),
    ("MeanSquaredLogarithmicError", {}, "positive"),
    ("LogCoshError", {}, "numbers"),
    ("CosineSimilarity", {}, "numbers"),
    ("R2Score", {}, "numbers"),
    ("R2Score", {"class_aggregation": "variance_weighted_average"}, "numbers"),
    ("R2Score", {"class_aggregation": None, "num_regressors": 2}, "numbers"),
    ("PearsonCorrelation", {}, "numbers"),
    ("ConcordanceCorrelation", {}, "numbers"),
    ("Poisson", {}, "positive"),
    ("KLDivergence", {}, "distributions"),
    ("Hinge", {}, "signs"),
    ("SquaredHinge", {}, "binary_logits"),
    ("CategoricalHinge", {}, "classes"),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, "labels"),
    ("CategoricalCrossentropy", {"from_logits": True}, "class_logits"),
    ("SparseCategoricalCrossentropy", {}, "sparse"),
    ("Accuracy", {}, "ids"),
    ("BinaryAccuracy", {"threshold": 0.4}, "labels"),
    ("CategoricalAccuracy", {}, "classes"),
    ("CategoricalAccuracy", {}, "image_classes"),
    ("SparseCategoricalAccuracy", {}, "sparse"),
    ("TopKCategoricalAccuracy", {"k": 2}, "classes"),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, "sparse"),
    ("TruePositives", {}, "binary"),
    ("FalsePositives", {"thresholds": [0.7, 0.2]}, "labels"),
    ("TrueNegatives", {"thresholds": [0.1, 0.5, 0.6]}, "labels"),
    ("FalseNegatives", {"thresholds": [0.0, 0.5, 1.0]}, "edges"),
    ("Precision", {}, "binary"),
    ("Precision", {"thresholds": [0.3, 0.6]}, "labels"),
    ("Precision", {"top_k": 2}, "labels"),
    ("Recall", {}, "labels"),
    ("Recall", {"class_id": 1, "thresholds": 0.3}, "labels"),
    ("Recall", {"top_k": 2, "class_id": 2}, "classes"),
    ("SensitivityAtSpecificity", {"specificity": 0.6}, "binary"),
    ("SpecificityAtSensitivity", {"sensitivity": 0.6, "num_thresholds": 11}, "edges"),
    ("PrecisionAtRecall", {"recall": 0.5}, "binary"),
    ("PrecisionAtRecall", {"recall": 0.5, "num_thresholds": 1}, "binary"),
    ("RecallAtPrecision", {"precision": 0.5, "class_id": 1}, "labels"),
    ("F1Score", {}, "classes"),
    ("F1Score", {"average": "macro", "threshold": 0.5}, "labels"),
    ("FBetaScore", {"average": "weighted", "beta": 2.0, "threshold": 0.3}, "labels"),
    ("FBetaScore", {"average": "micro", "beta": 0.5}, "labels"),
    ("AUC", {}, "binary"),
    ("AUC", {"num_thresholds": 5}, "edges"),
    ("AUC", {"thresholds": [0.25, 0.5, 0.75]}, "edges"),
    ("Precision", {"thresholds": [0.25, 0.75]}, "edges"),
    ("AUC", {"curve": "PR"}, "binary"),
    ("AUC", {"curve": "PR", "summation_method": "majoring"}, "labels"),
    ("AUC", {"curve": "PRGAIN", "summation_method": "minoring"}, "labels"),
    ("AUC", {"summation_method": "minoring", "thresholds": [0.2, 0.9, 0.6]}, "labels"),
    ("AUC", {"multi_label": True, "num_labels": 4}, "labels"),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 0.0, 0.5], "curve": "PR"}, "labels"),
    ("AUC", {"label_weights": [1.0, 2.0, 0.0, 0.5]}, "labels"),
    ("AUC", {"from_logits": True}, "binary_logits"),
    ("MeanIoU", {"num_classes": 4}, "ids"),
    ("MeanIoU", {"num_classes": 4, "ignore_class": 3}, "ids"),
    ("MeanIoU", {"num_classes": 3}, "ids"),
    ("IoU", {"num_classes": 4, "target_class_ids": [0, 2]}, "ids"),
    ("BinaryIoU", {"threshold": 0.4, "target_class_ids": [1]}, "labels"),
    ("OneHotIoU", {"num_classes": 5, "target_class_ids": [0, 1]}, "classes"),
    ("OneHotMeanIoU", {"num_classes": 4}, "image_classes"),
]
# Weights of samples do not fit these in Keras: it wants a weight for each of several values a sample.
UNWEIGHTED_METRICS = {"MeanIoU", "IoU", "BinaryIoU", "OneHotMeanIoU"}


def name_of(case: Case) -> str:
    return f"{case[0]} {case[1]} {case[2]}"


def weights_of(kind: str) -> np.ndarray:
    """[batches, rows], whole numbers, because Keras counts intersections in integers."""
    return np.random.default_rng(len(kind)).integers(0, 4, (BATCHES, ROWS)).astype(np.float32)


def batches_of(kind: str, seed: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng([seed, *kind.encode()])
    return [DATA[kind](rng) for _ in range(BATCHES)]
