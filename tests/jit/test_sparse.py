"""Updates of the rows that a batch names: the same numbers as updates of whole tables, the same bits on any number of
threads, and only where the formula allows it."""

from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow.graph import autodiff, execution, ops
from layerflow.graph.ir import verify
from layerflow.graph.ops.primitive import placeholder
from layerflow.graph.shapes import Dim
from layerflow.graph.trace import tracing
from layerflow.jit import executable, pipeline, program
from layerflow.jit.interpreter import Interpreted
from layerflow.jit.sparse import sparse_updates

ROWS, BATCH = 150, 12
optimizers, train = lf.optimizers, lf.train

SPARSE = {
    "sgd": lambda: optimizers.SGD(0.1),
    "tfjs": lambda: train.sgd(0.1),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 100)),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "tfjs_adagrad": lambda: train.adagrad(0.1),
    "lazy": lambda: optimizers.LazyAdam(0.01),
    "lazy_amsgrad": lambda: optimizers.LazyAdam(0.01, amsgrad=True),
    "lazy_decay": lambda: optimizers.LazyAdam(0.01, weight_decay=0.1),
}
DENSE = {
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "decay": lambda: optimizers.SGD(0.1, weight_decay=0.1),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "global_clipnorm": lambda: optimizers.Adagrad(0.1, global_clipnorm=0.1),
    "average": lambda: optimizers.SGD(0.1, use_ema=True),
    "accumulated": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "lazy_clipped": lambda: optimizers.LazyAdam(0.1, global_clipnorm=0.1),
    "lazy_accumulated": lambda: optimizers.LazyAdam(0.1, gradient_accumulation_steps=2),
}


def one(table, dense, i):
    return ops.square(ops.gather(table, i[0]) @ dense)


def summed(table, dense, i):
    return ops.square(ops.mean(ops.tanh(ops.gather(table, i[1])), 1) @ dense)


def masked(table, dense, i):
    seen = ops.cast(ops.not_equal(i[1], 0), "float32")
    return ops.square(ops.sum(ops.gather(table, i[1]) * ops.expand_dims(seen, -1), 1) @ dense)


def projected(table, dense, i):
    """The gradient of rows is a product, whose rows are reshaped."""
    flat = ops.reshape(ops.gather(table, i[1]), (-1, table.shape[1]))
    return ops.square(ops.tanh(flat @ dense))


def shared(table, dense, i):
    """Two inputs with one table: the gradient is the sum of two."""
    return ops.square((ops.gather(table, i[0]) + ops.sum(ops.gather(table, i[1]), 1)) @ dense)


def beyond(table, dense, i):
    """Indices outside of the table count as the nearest row."""
    return ops.square(ops.gather(table, i[0] * 2 - 40) @ dense)


LOSSES = (one, masked, projected, shared, beyond)


class Setting:
    """A table [ROWS, width] and a matrix, the step that trains them, and batches of indices with many repeats."""

    def __init__(self, make, loss=summed, width=20, steps=7, regularizer=None, constraint=None, dtype="float32"):
        rng = np.random.default_rng(0)
        table = (rng.standard_normal((ROWS, width)) * 0.3).astype(dtype)
        self.table = lf.Variable(table, name="table", constraint=constraint)
        self.dense = lf.variable((rng.standard_normal((width, 3)) * 0.1).astype(dtype), name="dense")
        self.optimizer = make()
        symbols = [placeholder((None,), np.int32, "i"), placeholder((None, steps), np.int32, "j")]
        with tracing() as record:
            value = ops.mean(loss(self.table, self.dense, symbols))
            if regularizer is not None:
                value = value + regularizer(self.table)
            both = [self.table, self.dense]
            gradients = autodiff.gradients(value, both)
            execution.apply_updates(record, self.optimizer, list(zip(both, gradients, strict=True)))
            self.graph = record.graph(symbols, [value])
        # A quarter of the rows, the small ones often, and none of the rest.
        self.arrays = [
            (rng.random((5 * BATCH - 3, *tail)) ** 2 * (ROWS // 4)).astype(np.int32) for tail in ((), (steps,))
        ]
        self.state = [self.table, self.dense, *self.optimizer.variables]
        self.start = [v.numpy() for v in self.state]

    def run(self, how):
        """Loss of each batch, then weights and slots, after five batches from the start."""
        for variable, array in zip(self.state, self.start, strict=True):
            variable.assign(array)
        losses = how.run_batches(self.arrays, {"iteration": 1, "learning_rate": self.optimizer.learning_rate}, BATCH)
        return [*losses, *(v.numpy() for v in self.state)]


def kinds(graph):
    return [group.kind for group in pipeline.lower(graph).groups]


def assert_compiled_is_interpreted(setting):
    compiled, expected = setting.run(program(setting.graph)), setting.run(Interpreted(setting.graph))
    for mine, theirs in zip(compiled, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "loss"), [*((name, summed) for name in SPARSE), *((name, f) for name in ("sgd", "lazy") for f in LOSSES)]
)
def test_rows_are_updated_as_the_dense_formula_does(name, loss):
    setting = Setting(SPARSE[name], loss)
    assert kinds(setting.graph).count("update_rows") == 1
    assert "scatter_add" not in kinds(setting.graph)
    assert_compiled_is_interpreted(setting)
    if loss is not beyond:
        np.testing.assert_array_equal(setting.table.numpy()[ROWS // 4 :], setting.start[0][ROWS // 4 :])


@pytest.mark.parametrize("name", DENSE)
def test_formulas_that_move_other_rows_stay_dense(name):
    setting = Setting(DENSE[name])
    assert "update_rows" not in kinds(setting.graph)
    assert_compiled_is_interpreted(setting)


@pytest.mark.parametrize(
    "given",
    [
        {"regularizer": lambda table: ops.sum(ops.square(table)) * 0.01},
        {"loss": lambda table, dense, i: ops.square(ops.gather(table, i[0]) @ ops.transpose(table)) + ops.mean(dense)},
        {"constraint": lf.constraints.max_norm(1.0)},
    ],
    ids=["regularizer", "tied weights", "constraint"],
)
@pytest.mark.parametrize("name", ["sgd", "lazy"])
def test_tables_that_are_used_whole_stay_dense(name, given):
    setting = Setting(SPARSE[name], **given)
    assert "update_rows" not in kinds(setting.graph)
    assert_compiled_is_interpreted(setting)


def test_old_rows_are_read_before_they_are_overwritten():
    """The table is read whole elsewhere, without a gradient."""

    def loss(table, dense, i):
        old = ops.stop_gradient(ops.mean(table, 0))
        return ops.square((ops.gather(table, i[0]) + old) @ dense) + ops.mean(ops.stop_gradient(table))

    setting = Setting(SPARSE["sgd"], loss)
    assert "update_rows" in kinds(setting.graph)
    assert_compiled_is_interpreted(setting)


@pytest.mark.parametrize(("width", "steps"), [(1, 3), (16, 1), (64, 512), (300, 5), (512, 3)])
@pytest.mark.parametrize("name", ["adagrad", "adam"])
def test_widths_and_lengths(name, width, steps):
    """Also those whose rows are padded in memory: 512 features, 512 steps."""
    setting = Setting({**SPARSE, **DENSE}[name], width=width, steps=steps)
    assert_compiled_is_interpreted(setting)


class LazyNadam(optimizers.Nadam):
    """One that also keeps a number for all weights."""

    LAZY = True


@pytest.mark.parametrize("make", [SPARSE["adagrad"], lambda: LazyNadam(0.01)], ids=["Adagrad", "LazyNadam"])
def test_double_precision_and_optimizers_of_ones_own(make):
    setting = Setting(make, dtype="float64")
    assert "update_rows" in kinds(setting.graph)
    assert_compiled_is_interpreted(setting)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "lazy", "adam"])
@pytest.mark.parametrize("loss", [summed, shared])
def test_bits_do_not_depend_on_threads(name, loss, monkeypatch):
    monkeypatch.setattr(executable, "WORK_PER_THREAD", 1.0)
    monkeypatch.setattr(executable, "get_num_threads", lambda: threads)
    setting, found = Setting({**SPARSE, **DENSE}[name], loss, width=130), []
    compiled = program(setting.graph)
    for threads in (1, 2, 3):
        found.append(setting.run(compiled))
        assert compiled.threads == threads
    for one_thread, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_array_equal(one_thread, other)


def test_the_pass_is_a_rewriting_of_the_graph():
    """The uncompiled kernels of the new operations give the same values."""
    for name in ("sgd", "lazy"):
        setting = Setting(SPARSE[name], shared)
        graph = sparse_updates(pipeline.simplify(setting.graph))
        verify(graph)
        assert {"update_rows", "row_sums", "rows_part"} <= {op.name for op in graph.ops}
        for mine, theirs in zip(setting.run(Interpreted(graph)), setting.run(Interpreted(setting.graph)), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_graphs_without_tables_are_left_alone():
    with tracing() as record:
        x, w = placeholder((None, 4)), lf.variable(np.ones((4, 2), np.float32))
        record.updates[w] = w - 0.1 * ops.matmul(x, x @ w, transpose_a=True)
        graph = record.graph([x], [])
    assert sparse_updates(graph) is graph


def test_the_plan_says_which_rows():
    text = pipeline.scheduling.describe(pipeline.lower(Setting(SPARSE["lazy"]).graph).plan)
    line = next(line for line in text.splitlines() if "update_rows" in line)
    assert line.endswith("64 units")
    below = text[text.index(line) :].splitlines()[2]
    assert below.split() == ["writes", "table[150,20],", "table/m[150,20],", "table/v[150,20]"]


def test_working_memory_is_by_indices_not_by_rows():
    setting = Setting(SPARSE["sgd"], steps=7)
    (kernel,) = [k for k in pipeline.lower(setting.graph).plan.kernels if k.group.kind == "update_rows"]
    fixed, sampled = kernel.scratch
    assert sampled == 6 * 4 * 7
    assert fixed < 1024


def model(optimizer, inputs=2, **settings):
    """Several embeddings, one of them shared by two inputs, with padding."""
    lf.random.set_seed(2)
    xs = [lf.input(shape=[6], dtype="int32") for _ in range(inputs + 1)]
    both = lf.layers.embedding(input_dim=50, output_dim=12, mask_zero=True, **settings)
    own = lf.layers.embedding(input_dim=30, output_dim=8)
    parts = [lf.layers.gru(units=5).apply(both.apply(x)) for x in xs[:inputs]]
    parts.append(lf.layers.global_average_pooling1d().apply(own.apply(xs[-1])))
    made = lf.model(inputs=xs, outputs=lf.layers.dense(units=1).apply(lf.layers.concatenate().apply(parts)))
    made.compile(optimizer, loss="mse")
    return made


def batches(inputs=2):
    rng = np.random.default_rng(1)
    xs = [rng.integers(0, 30, (40, 6)).astype(np.int32) * (rng.random((40, 6)) < 0.7) for _ in range(inputs + 1)]
    return [x.astype(np.int32) for x in xs], rng.standard_normal((40, 1)).astype(np.float32)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "lazy", "adam"])
def test_models_with_several_embeddings(name):
    found = []
    for compiled in (True, False):
        before = config.jit()
        config.set_jit(compiled)
        try:
            trained = model({**SPARSE, **DENSE}[name]())
            trained.fit(*batches(), epochs=2, batch_size=16, verbose=0, shuffle=False)
            found.append([*trained.get_weights(), *trained.optimizer.get_weights()])
        finally:
            config.set_jit(before)
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"embeddings_regularizer": "l2"}], ids=["plain", "regularized"])
def test_the_dump_of_a_model_shows_where_rows_are_updated(settings):
    text = lf.inspect.dump(model(train.sgd(0.1), **settings), "schedule")
    assert text.count("_update_rows: ") == (1 if settings else 2)


def test_lazy_adam_is_torchs_sparse_adam():
    stored = np.load(Path(__file__).parents[1] / "oracles" / "data" / "torch_sparse_adam.npz")
    table = lf.variable(stored["start"], name="table")
    optimizer = optimizers.LazyAdam(float(stored["rate"]))
    for i, w, expected in zip(stored["indices"], stored["weights"], stored["path"], strict=True):
        optimizer.minimize(lambda i=i, w=w: ops.sum(ops.gather(table, i) * w))
        np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5, atol=1e-6)
    _, m, v = optimizer.get_weights()
    np.testing.assert_allclose(m, stored["m"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(v, stored["v"], rtol=1e-5, atol=1e-9)


def test_adam_moves_rows_that_are_not_named():
    """The formula of Kingma and Ba in double precision, and its difference to the lazy one."""
    stored = np.load(Path(__file__).parents[1] / "oracles" / "data" / "torch_sparse_adam.npz")
    table, rate = lf.variable(stored["start"]), float(stored["rate"])
    optimizer = optimizers.Adam(rate)
    w = stored["start"].astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (i, u) in enumerate(zip(stored["indices"], stored["weights"], strict=True), 1):
        optimizer.minimize(lambda i=i, u=u: ops.sum(ops.gather(table, i) * u))
        g = np.zeros_like(w)
        np.add.at(g, i, u.astype(np.float64))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        np.testing.assert_allclose(table.numpy(), w, rtol=1e-5, atol=1e-5)
    assert np.abs(table.numpy() - stored["path"][-1]).max() > 0.01


def test_lazy_adam_without_fit():
    """Gradients as arrays: rows of zeros are those that were not named; two steps in two ways."""
    i, found = np.array([[1, 2], [1, 4]], np.int32), []
    for eager in (False, True):
        table, optimizer = lf.variable(np.ones((6, 3), np.float32), name="t"), optimizers.LazyAdam(0.1)
        for at in (i, i + 1):

            def loss(at=at, table=table):
                return ops.sum(ops.square(ops.gather(table, at)))

            if eager:
                optimizer.apply_gradients(optimizer.compute_gradients(loss)[1])
            else:
                optimizer.minimize(loss)
        found.append([table.numpy(), *optimizer.get_weights()])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    np.testing.assert_array_equal(found[0][0][0], 1)
    assert (found[0][0][1:] != 1).all()


def test_lazy_adam_is_adam_where_all_rows_are_named():
    found = []
    for make in (optimizers.Adam, optimizers.LazyAdam):
        setting = Setting(lambda make=make: make(0.01), steps=ROWS)
        setting.arrays[1][:] = np.arange(ROWS)
        found.append(setting.run(program(setting.graph)))
    assert np.abs(found[0][1] - setting.start[0]).max() > 0.01
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_lazy_adam_by_its_names():
    assert isinstance(lf.optimizers.get("lazy_adam"), lf.optimizers.LazyAdam)
    assert isinstance(lf.optimizers.get("SparseAdam"), lf.optimizers.LazyAdam)
    again = lf.optimizers.deserialize(lf.optimizers.serialize(lf.optimizers.LazyAdam(0.2, amsgrad=True)))
    assert type(again) is lf.optimizers.LazyAdam
    assert again.amsgrad


def test_scatter_add_of_any_rank_and_size():
    """Tables that several threads sum, rows of several axes, and numbers alone."""
    rng = np.random.default_rng(0)
    for tail in ((), (3,), (512,), (2, 3, 5), (2, 512)):
        at = rng.integers(0, 1000, (6, 512)).astype(np.int32)
        updates = rng.standard_normal((6, 512, *tail)).astype(np.float32)
        symbols = [placeholder((None, 512), np.int32), placeholder((None, 512, *tail))]
        with tracing() as record:
            graph = record.graph(symbols, [ops.scatter_add(symbols[0], symbols[1], 1000)])
        assert symbols[0].op.shape[0] == Dim()
        (got,) = program(graph).run_batches([at, updates], {}, 6)
        expected = np.zeros((1000, *tail))
        np.add.at(expected, at, updates)
        np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)
