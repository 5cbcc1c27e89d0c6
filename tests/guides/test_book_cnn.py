"""The convolutional networks of the book's chapter 6: summary, the training loop, the larger network."""

import os

import numpy as np
import pytest

import layerflow as lf
from layerflow.datasets import digits, mnist

SUMMARY = """\
_________________________________________________________________
Layer (type)                 Output shape              Param #
=================================================================
conv2d_Conv2D1 (Conv2D)      [null,26,26,32]           320
_________________________________________________________________
conv2d_Conv2D2 (Conv2D)      [null,24,24,32]           9248
_________________________________________________________________
max_pooling2d_MaxPooling2D1  [null,12,12,32]           0
_________________________________________________________________
conv2d_Conv2D3 (Conv2D)      [null,10,10,64]           18496
_________________________________________________________________
conv2d_Conv2D4 (Conv2D)      [null,8,8,64]             36928
_________________________________________________________________
max_pooling2d_MaxPooling2D2  [null,4,4,64]             0
_________________________________________________________________
flatten_Flatten1 (Flatten)   [null,1024]               0
_________________________________________________________________
dropout_Dropout1 (Dropout)   [null,1024]               0
_________________________________________________________________
dense_Dense1 (Dense)         [null,512]                524800
_________________________________________________________________
dropout_Dropout2 (Dropout)   [null,512]                0
_________________________________________________________________
dense_Dense2 (Dense)         [null,10]                 5130
=================================================================
Total params: 594922
Trainable params: 594922
Non-trainable params: 0
_________________________________________________________________"""

LEARNING_RATE = 0.15
BATCH_SIZE = 64
TEST_BATCH_SIZE = 1000  # where there are as many
TEST_ITERATION_FREQUENCY = 5


def small_network():
    """Figures 6.x: two convolutions of 5x5 with 8 and 16 filters."""
    model = lf.sequential()
    model.add(
        lf.layers.conv2d(
            inputShape=[28, 28, 1],
            kernelSize=5,
            filters=8,
            strides=1,
            activation="relu",
            kernelInitializer="VarianceScaling",
        )
    )
    model.add(lf.layers.max_pooling2d(poolSize=[2, 2], strides=[2, 2]))
    model.add(
        lf.layers.conv2d(kernel_size=5, filters=16, strides=1, activation="relu", kernel_initializer="VarianceScaling")
    )
    model.add(lf.layers.max_pooling2d(pool_size=[2, 2], strides=[2, 2]))
    model.add(lf.layers.flatten())
    model.add(lf.layers.dense(units=10, kernel_initializer="VarianceScaling", activation="softmax"))
    model.compile(optimizer=lf.train.sgd(LEARNING_RATE), loss="categoricalCrossentropy", metrics=["accuracy"])
    return model


def large_network():
    """The network whose summary the chapter prints."""
    layers = lf.layers
    return lf.sequential(
        [
            layers.conv2d(filters=32, kernel_size=3, activation="relu", input_shape=[28, 28, 1]),
            layers.conv2d(filters=32, kernel_size=3, activation="relu"),
            layers.max_pooling2d(pool_size=[2, 2]),
            layers.conv2d(filters=64, kernel_size=3, activation="relu"),
            layers.conv2d(filters=64, kernel_size=3, activation="relu"),
            layers.max_pooling2d(pool_size=[2, 2]),
            layers.flatten(),
            layers.dropout(rate=0.25),
            layers.dense(units=512, activation="relu"),
            layers.dropout(rate=0.5),
            layers.dense(units=10, activation="softmax"),
        ]
    )


def images(split):
    """Digits as the chapter has them: [rows, 28, 28, 1] in [0, 1], and one-hot labels."""
    x, y = split
    if x.shape[1:] == (8, 8):
        x = np.pad(np.kron(x, np.ones((1, 3, 3), np.uint8)), [(0, 0), (2, 2), (2, 2)])
    return (x / np.float32(x.max()))[..., None].astype(np.float32), np.eye(10, dtype=np.float32)[y]


def train(model, train_split, test_split, batches):
    """The loop of the chapter; returns losses and accuracies of the batches, and the accuracies on test images."""
    (x, y), (x_test, y_test) = images(train_split), images(test_split)
    losses, accuracies, tested = [], [], []
    for i in range(batches):
        rows = np.arange(i * BATCH_SIZE, (i + 1) * BATCH_SIZE) % len(x)
        validation_data = None
        if i % TEST_ITERATION_FREQUENCY == 0:
            validation_data = (x_test[:TEST_BATCH_SIZE].reshape([-1, 28, 28, 1]), y_test[:TEST_BATCH_SIZE])
        info = model.fit(
            x[rows].reshape([BATCH_SIZE, 28, 28, 1]),
            y[rows],
            batchSize=BATCH_SIZE,
            validationData=validation_data,
            epochs=1,
            verbose=0,
        )
        assert ("val_acc" in info.history) == (validation_data is not None)
        loss = info.history["loss"][0]
        accuracy = info.history["acc"][0]
        print("LOSS: ", loss, "ACCURACY: ", accuracy)
        losses.append(loss)
        accuracies.append(accuracy)
        tested += info.history.get("val_acc", [])
    return losses, accuracies, tested


def test_summary(fresh_names, capsys):
    large_network().summary()
    assert [line.rstrip() for line in capsys.readouterr().out.rstrip().split("\n")] == SUMMARY.split("\n")


def test_small_network(fresh_names):
    model = small_network()
    assert [layer.output_shape for layer in model.layers] == [
        (None, 24, 24, 8), (None, 12, 12, 8), (None, 8, 8, 16), (None, 4, 4, 16), (None, 256), (None, 10),
    ]  # fmt: skip
    assert model.count_params() == (25 + 1) * 8 + (25 * 8 + 1) * 16 + 257 * 10
    assert [w.name for w in model.weights][:2] == ["conv2d_Conv2D1/kernel", "conv2d_Conv2D1/bias"]


def test_small_network_learns_batch_by_batch(capsys):
    losses, accuracies, tested = train(small_network(), *digits.load(), 44)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"LOSS:  {losses[0]} ACCURACY:  {accuracies[0]}"
    assert len(lines) == 44
    assert np.mean(losses[:3]) > 1.8
    assert np.mean(losses[-8:]) < 0.8
    assert np.mean(accuracies[-8:]) > 0.7
    assert len(tested) == 9
    assert tested[-1] > max(0.6, tested[0])


def test_large_network_learns_and_dropout_is_off_afterwards():
    model = large_network()
    model.compile(optimizer="adam", loss="categoricalCrossentropy", metrics=["accuracy"])
    train_split, test_split = digits.load()
    x, y = images((train_split[0][:192], train_split[1][:192]))
    history = model.fit(x, y, epochs=3, batch_size=64, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    x_test, _ = images((test_split[0][:16], test_split[1][:16]))
    predicted = model.predict(x_test)
    assert predicted.shape == (16, 10)
    np.testing.assert_allclose(predicted.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predicted, model.predict(x_test))


def test_save_and_load(tmp_path):
    model = small_network()
    model.save(tmp_path / "trained_models")
    again = lf.load_layers_model(tmp_path / "trained_models")
    x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


needs_mnist = pytest.mark.skipif("LAYERFLOW_MNIST" not in os.environ, reason="names no folder with MNIST")


@pytest.mark.long
@needs_mnist
def test_small_network_on_mnist():
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
