"""The dense examples of the book's chapter 6 (figures 6.1 to 6.4 and the training settings), in Python spelling."""

import numpy as np
import pytest

import layerflow as lf

FIGURE_6_3 = """\
_________________________________________________________________
Layer (type)                 Output shape              Param #
=================================================================
dense_Dense3 (Dense)         [null,1]                  2
=================================================================
Total params: 2
Trainable params: 2
Non-trainable params: 0
_________________________________________________________________"""

FIGURE_6_4 = """\
output: ______________________________
output: Layer (type)
output: ==============================
output: dense_Dense3 (Dense)
output: ==============================
output: Total params: 2
output: Trainable params: 2
output: Non-trainable params: 0
output: ______________________________"""


def two_dense_layers():
    model = lf.sequential()
    model.add(lf.layers.dense(units=32, input_shape=[100]))
    model.add(lf.layers.dense(units=4))
    return model


def linear_model():
    model = lf.sequential()
    model.add(lf.layers.dense(units=1, input_shape=[1]))
    return model


def test_figure_6_1():
    assert two_dense_layers().count_params() == 100 * 32 + 32 + 32 * 4 + 4


def test_figure_6_2(capsys):
    model = linear_model()
    model.compile(loss="meanSquaredError", optimizer="sgd")
    xs = lf.tensor([1, 2, 3, 4], [4, 1])
    ys = lf.tensor([1, 3, 5, 7], [4, 1])
    model.fit(xs, ys, verbose=0)
    prediction = model.predict(lf.tensor([5], [1, 1]))
    prediction.print()
    assert prediction.shape == (1, 1)
    assert float(capsys.readouterr().out.strip(" []\n")) == pytest.approx(prediction.item(), rel=1e-6)


def test_figure_6_3(fresh_names, capsys):
    two_dense_layers()
    linear_model().summary()
    assert [line.rstrip() for line in capsys.readouterr().out.rstrip().split("\n")] == FIGURE_6_3.split("\n")


def test_figure_6_4(fresh_names, capsys):
    two_dense_layers()
    linear_model().summary(30, [100, 50, 25], lambda x: print("output: " + x))
    assert [line.rstrip() for line in capsys.readouterr().out.rstrip().split("\n")] == FIGURE_6_4.split("\n")


def test_training_settings():
    learning_rate, batch_size = 0.15, 64
    model = lf.sequential([lf.layers.dense(units=10, activation="softmax", input_shape=[784])])
    model.compile(optimizer=lf.train.sgd(learning_rate), loss="categoricalCrossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(1)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, batch_size)]
    xs = rng.standard_normal((batch_size, 784), np.float32)
    history = model.fit(xs, labels, batch_size=batch_size, validation_data=(xs, labels), epochs=1, verbose=0)
    assert set(history.history) == {"loss", "acc", "val_loss", "val_acc"}
    loss, accuracy = history.history["loss"][0], history.history["acc"][0]
    assert loss > 0
    assert 0 <= accuracy <= 1
