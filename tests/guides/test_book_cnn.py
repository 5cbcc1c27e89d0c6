"""The convolutional networks of the book's chapter 6: summary, the training loop, the larger network."""

import os

import numpy as np
import pytest

import layerflow as lf
from layerflow.datasets import digits, mnist

SUMMARY = """\
_________________________________________________________________
Layer (type)                 Output shape              Param #
==========================================================def train(model, train_split, test_split, batches, test_batch_size=TEST_BATCH_SIZE):
    """The loop of the chapter; returns losses and accuracies of the batches, and the accuracies on test images."""
def train(model, train_split, test_split, batches):
    """The loop of the chapter; returns losses and accuracies of the batches, and the accuracies on test images."""
        loss = info.history["loss"][0]
        accuracy = info.history["acc"][0]
        print("LOSS: ", loss, "ACCURACY: ", accuracy)
        losses.append(loss)
        accuracies.append(accuracy)
        tested += info.history.get("val_acc", [])
    return losses, accuracies, tested
        losses.append(info.history["loss"][0])
        accuracies.append(info.history["acc"][0])
        tested += info.history.get("val_acc", [])
    return losses, accuracies, tested
def test_small_network_learns_batch_by_batch(capsys):
    losses, accuracies, tested = train(small_network(), *digits.load(), 44)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"LOSS:  {losses[0]} ACCURACY:  {accuracies[0]}"
    assert len(lines) == 44
def test_small_network_learns_batch_by_batch():
    losses, accuracies, tested = train(small_network(), *digits.load(), 44)
def test_small_network_learns_batch_by_batch(capsys):
    losses, accuracies = train(small_network(), *digits.load(), 44)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"LOSS:  {losses[0]} ACCURACY:  {accuracies[0]}"
    assert len(lines) == 44
    """What the chapter says of its run: the loss falls, the accuracy rises, most test images are told right."""
    losses, accuracies, tested = train(small_network(), *mnist.load(), 100)
    assert np.mean(losses[:3]) > 1.5
    assert np.mean(losses[-20:]) < 0.5
    assert np.mean(accuracies[:3]) < 0.6
    assert np.mean(accuracies[-20:]) > 0.85
    assert tested[0] < 0.6
    assert np.mean(tested[-4:]) > 0.85


@pytest.mark.long
@needs_mnist
def test_large_network_on_mnist():
    """99 of 100 test images are told right within three epochs."""
    model = large_network()
    model.compile(optimizer="adam", loss="categoricalCrossentropy", metrics=["accuracy"])
    (x, y), test = map(images, mnist.load())
    reached = []
    while len(reached) < 3 and max(reached, default=0) < 0.99:
        model.fit(x, y, epochs=1, batch_size=128, verbose=0)
        reached.append(model.evaluate(*test)[1])
    assert max(reached) >= 0.99, reached
