"""1,797 handwritten digits of 8 x 8 pixels, stored in the package (origin and licence: digits.md beside this file)."""

from importlib import resources

import numpy as np

Split = tuple[np.ndarray, np.ndarray]

_TRAIN_ROWS = 1437


def load() -> tuple[Split, Split]:
    """The digits in a fixed random split: 1,437 rows to train on, 360 to test with.

    Returns `(x_train, y_train), (x_test, y_test)`: x uint8 [rows, 8, 8] with values 0..16, y uint8 [rows] with 0..9.
    The file is ordered by writer; the split mixes them, so the test part asks for new digits, not for new hands.

    >>> (x_train, y_train), (x_test, y_test) = load()
    >>> x_train.shape, x_test.shape
    ((1437, 8, 8), (360, 8, 8))
    """
    with resources.files("layerflow.datasets").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels = stored["images"], stored["labels"]
    # RandomState's stream is frozen for good (NEP 19), a Generator's is not: the split must not move with NumPy.
    order = np.random.RandomState(0).permutation(len(images))
    train, test = order[:_TRAIN_ROWS], order[_TRAIN_ROWS:]
    return (images[train], labels[train]), (images[test], labels[test])
