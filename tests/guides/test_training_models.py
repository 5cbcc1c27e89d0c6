"""The examples of the guide "Training models", in Python spelling."""

import asyncio

import numpy as np

import layerflow as lf


def make_model():
    return lf.sequential(
        layers=[
            lf.layers.dense(input_shape=[784], units=32, activation="relu"),
            lf.layers.dense(units=10, activation="softmax"),
        ]
    )


def test_weights_by_name(fresh_names, capsys):
    for w in make_model().weights:
        print(w.name, list(w.shape))
    assert capsys.readouterr().out.splitlines() == [
        "dense_Dense1/kernel [784, 32]",
        "dense_Dense1/bias [32]",
        "dense_Dense2/kernel [32, 10]",
        "dense_Dense2/bias [10]",
    ]


def test_summary(fresh_names):
    lines: list[str] = []
    make_model().summary(print_fn=lines.append)
    assert [" ".join(line.split()) for line in lines if not set(line) <= set("_=")] == [
        "Layer (type) Output shape Param #",
        "dense_Dense1 (Dense) [null,32] 25120",
        "dense_Dense2 (Dense) [null,10] 330",
        "Total params: 25450",
        "Trainable params: 25450",
        "Non-trainable params: 0",
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
    model = make_model()
    model.compile(optimizer="adam", loss="categoricalCrossentropy", metrics=["accuracy"])
    data, labels = lf.random_normal([100, 784]), lf.random_uniform([100, 10])
    seen = []
    options = {"epochs": 2, "batchSize": 50, "callbacks": {"onBatchEnd": lambda batch, logs: seen.append(batch)}}
    info = asyncio.run(model.fit_async(data, labels, verbose=0, **options))
    assert len(info.history["acc"]) == 2
    assert seen == [0, 1, 0, 1]


def data():
    for _ in range(100):
        # Generate one sample at a time.
        yield lf.random_normal([784])


def labels():
    for _ in range(100):
        # Generate one sample at a time.
        yield lf.random_uniform([10])


def make_dataset():
    xs = lf.data.generator(data)
    ys = lf.data.generator(labels)
    # We zip the data and labels together, shuffle and batch 32 samples at a time.
    return lf.data.zip({"xs": xs, "ys": ys}).shuffle(100).batch(32)  # 100: buffer size


def test_fit_dataset():
    model = make_model()
    model.compile(optimizer="sgd", loss="categoricalCrossentropy", metrics=["accuracy"])
    before = model.get_weights()
    sizes = []
    # Train the model for 5 epochs.
    info = model.fit_dataset(
        make_dataset(), epochs=5, verbose=0, callbacks={"onBatchEnd": lambda batch, logs: sizes.append(logs["size"])}
    )
    assert len(info.history["acc"]) == 5
    assert all(0 <= acc <= 1 for acc in info.history["acc"])
    assert sizes == [32, 32, 32, 4] * 5
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_fit_dataset_async():
    model = make_model()
    model.compile(optimizer="sgd", loss="categoricalCrossentropy", metrics=["accuracy"])
    info = asyncio.run(model.fit_dataset_async(make_dataset(), epochs=2, batchesPerEpoch=2, verbose=0))
    assert len(info.history["acc"]) == 2


def test_predict(capsys):
    # Predict 3 random samples.
    prediction = make_model().predict(lf.random_normal([3, 784]))
    prediction.print()
    assert prediction.shape == (3, 10)
    assert capsys.readouterr().out.count("[") == 4


def test_core_api_training_loop(capsys):
    # The weights and biases for the two dense layers.
    w1, b1 = lf.variable(lf.random_normal([784, 32])), lf.variable(lf.random_normal([32]))
    w2, b2 = lf.variable(lf.random_normal([32, 10])), lf.variable(lf.random_normal([10]))

    def model(x):
        return x.mat_mul(w1).add(b1).relu().mat_mul(w2).add(b2)

    ds = make_dataset()
    optimizer = lf.train.sgd(0.1)  # learning rate
    kept = [variable.numpy() for variable in (w1, b1, w2, b2)]

    def train_on(batch):
        xs, ys = batch["xs"], batch["ys"]

        def loss():
            return lf.losses.softmax_cross_entropy(ys, model(xs))

        print("Loss", optimizer.minimize(loss, return_cost=True).data())

    async def train():
        # Train for 5 epochs.
        for epoch in range(5):
            await ds.for_each_async(train_on)
            print("Epoch", epoch)

    asyncio.run(train())
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == (["Loss"] * 4 + ["Epoch"]) * 5
    assert [line for line in printed if line.startswith("Epoch")] == [f"Epoch {epoch}" for epoch in range(5)]
    assert optimizer.iterations == 20
    # The gradients are computed with respect to the four variables defined earlier.
    for variable, old in zip((w1, b1, w2, b2), kept, strict=True):
        assert (variable.numpy() != old).any()


def test_core_api_loop_learns():
    """The guide's labels are random; with labels that follow from the data the loss goes down."""
    w, b = lf.variable(lf.zeros([4, 3])), lf.variable(lf.zeros([3]))
    x = np.random.default_rng(0).standard_normal((96, 4), np.float32)
    y = np.eye(3, dtype=np.float32)[x[:, :3].argmax(axis=1)]
    ds = lf.data.zip((lf.data.array(x), lf.data.array(y))).shuffle(96).batch(32)
    optimizer, losses = lf.train.sgd(0.5), []

    def train_on(batch):
        xs, ys = batch
        cost = optimizer.minimize(lambda: lf.losses.softmax_cross_entropy(ys, xs.mat_mul(w).add(b)), return_cost=True)
        losses.append(float(cost))

    for _ in range(10):
        ds.for_each(train_on)
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
