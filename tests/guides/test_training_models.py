"""The examples of the guide "Training models" that need no Dataset, in Python spelling."""

import numpy as np

import layerflow as lf


def make_model():
    return lf.sequential(
        layers=[
            lf.layers.dense(input_shape=[784], units=32, activation="relu"),
            lf.layers.dense(units=10, activation="softmax"),
        ]
    )


def test_weights_by_name(fresh_names):
    assert [f"{w.name} {list(w.shape)}" for w in make_model().weights] == [
        "dense_Dense1/kernel [784, 32]",
        "dense_Dense1/bias [32]",
        "dense_Dense2/kernel [32, 10]",
        "dense_Dense2/bias [10]",
    ]


def test_without_bias():
    layer = lf.layers.dense(units=3, use_bias=False, input_shape=[2])
    assert len(lf.sequential([layer]).weights) == 1


def test_assign_weights():
    model = make_model()
    for w in model.weights:
        new_values = lf.random_normal(w.shape)
        # w.val is an instance of lf.Variable
        assert isinstance(w.val, lf.Variable)
        w.val.assign(new_values)
        np.testing.assert_array_equal(np.asarray(w.val), new_values)


def test_fit():
    model = make_model()
    model.compile(optimizer="sgd", loss="categoricalCrossentropy", metrics=["accuracy"])
    # Generate dummy data.
    data = lf.random_normal([100, 784])
    labels = lf.random_uniform([100, 10])
    seen = []

    def on_batch_end(batch, logs):
        seen.append((batch, logs["size"], logs["acc"]))

    # Train for 5 epochs with batch size of 32.
    info = model.fit(data, labels, epochs=5, batch_size=32, callbacks={"on_batch_end": on_batch_end}, verbose=0)
    assert len(info.history["acc"]) == 5
    assert [(batch, size) for batch, size, _ in seen] == [(0, 32), (1, 32), (2, 32), (3, 4)] * 5
    mean = sum(size * acc for _, size, acc in seen[-4:]) / 100
    assert abs(info.history["acc"][-1] - mean) < 1e-6
    assert info["accuracy"] == info.history["acc"]


def test_fit_in_camel_case_and_async():
    import asyncio

    model = make_model()
    model.compile(optimizer="adam", loss="categoricalCrossentropy", metrics=["accuracy"])
    data, labels = lf.random_normal([100, 784]), lf.random_uniform([100, 10])
    seen = []
    options = {"epochs": 2, "batchSize": 50, "callbacks": {"onBatchEnd": lambda batch, logs: seen.append(batch)}}
    info = asyncio.run(model.fit_async(data, labels, verbose=0, **options))
    assert len(info.history["acc"]) == 2
    assert seen == [0, 1, 0, 1]


def test_predict(capsys):
    # Predict 3 random samples.
    prediction = make_model().predict(lf.random_normal([3, 784]))
    prediction.print()
    assert prediction.shape == (3, 10)
    assert capsys.readouterr().out.count("[") == 4


def test_core_api_training_loop():
    w1, b1 = lf.variable(lf.random_normal([784, 32])), lf.variable(lf.random_normal([32]))
    w2, b2 = lf.variable(lf.random_normal([32, 10])), lf.variable(lf.random_normal([10]))

    def model(x):
        return x.mat_mul(w1).add(b1).relu().mat_mul(w2).add(b2)

    xs, ys = lf.random_normal([96, 784]), lf.softmax(lf.random_normal([96, 10]))
    optimizer = lf.train.sgd(0.1)  # learning rate
    losses = []
    # Train for 5 epochs.
    for _ in range(5):
        for first in range(0, 96, 32):
            batch_x, batch_y = xs[first : first + 32], ys[first : first + 32]

            def loss(x=batch_x, y=batch_y):
                return lf.losses.softmax_cross_entropy(y, model(x))

            cost = optimizer.minimize(loss, return_cost=True)
            losses.append(float(cost))
    assert optimizer.iterations == 15
    assert sum(losses[-3:]) < sum(losses[:3])
