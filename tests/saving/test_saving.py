"""Saving and loading: round trips, atomicity, what a file may not do."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from layerflow import layers as L
from layerflow import losses, optimizers, train
from layerflow.errors import LoadError, SaveError
from layerflow.io import artifacts
from layerflow.models.functional import model
from layerflow.models.saving import load_layers_model
from layerflow.models.sequential import sequential
from layerflow.registry import custom_objects

TFJS = Path(os.environ.get("LAYERFLOW_TFJS", "node_modules/@tensorflow/tfjs"))


def mlp():
    return sequential(
        [
            L.dense(units=8, activation="relu", input_shape=[6], kernel_regularizer="l2"),
            L.dropout(rate=0.2),
            L.dense(units=3, activation="softmax"),
        ]
    )


def branches():
    a, b = L.input(shape=[5]), L.input(shape=[5])
    shared, encoder = L.dense(units=4, activation="tanh"), sequential([L.dense(units=3, input_shape=[4])])
    u, v = shared(a), shared(b)
    return model(
        inputs=[a, b],
        outputs=[L.dense(units=2)(L.concatenate()([u, v])), L.softmax()(L.add()([encoder(u), encoder(v)]))],
    )


def data(net):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, *x.shape[1:])).astype(np.float32) for x in net.inputs]


def with_state(net, optimizer):
    net.compile(optimizer=optimizer, loss="mse", metrics=["mae"])
    rng = np.random.default_rng(1)
    net.optimizer.iterations = 7
    for w in net.trainable_weights:
        for slot in net.optimizer.slot_variables(w).values():
            slot.assign(rng.uniform(0.1, 1, slot.shape))
    return net


@pytest.mark.parametrize("make", [mlp, branches])
@pytest.mark.parametrize("place", ["{}", "{}/model.json", "file://{}/model.json"])
def test_round_trip(make, place, tmp_path):
    net = make()
    info = net.save(place.format(tmp_path / "m"))["model_artifacts_info"]
    assert info["weight_data_bytes"] == 4 * net.count_params()
    assert sorted(os.listdir(tmp_path / "m")) == ["model.json", "weights.bin"]
    again = load_layers_model(place.format(tmp_path / "m"))
    assert again.get_config() == net.get_config()
    for a, b in zip(net.replay(data(net))[0], again.replay(data(net))[0], strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "optimizer",
    [
        train.sgd(0.1),
        train.momentum(0.1, 0.9, True),
        train.adam(0.01),
        train.adagrad(0.1),
        train.adadelta(0.5),
        train.adamax(0.1),
        train.rmsprop(0.1, 0.8, 0.5, None, True),
        optimizers.SGD(0.1, 0.9),
        optimizers.Adam(0.1, amsgrad=True),
        optimizers.RMSprop(0.1),
    ],
    ids=lambda o: type(o).__module__.split(".")[-1] + "." + type(o).__name__,
)
def test_optimizer_state_round_trip(optimizer, tmp_path):
    net = with_state(mlp(), optimizer)
    net.save(tmp_path)
    again = load_layers_model(tmp_path)
    assert type(again.optimizer) is type(optimizer)
    assert again.optimizer.get_config() == optimizer.get_config()
    assert again.optimizer.iterations == 7
    assert again.loss_functions == [losses.get("mse")]
    for a, b in zip(
        optimizer.get_weights(net.trainable_weights), again.optimizer.get_weights(again.trainable_weights), strict=True
    ):
        assert np.array_equal(a, b)
    again.save(tmp_path / "bare", include_optimizer=False)
    assert load_layers_model(tmp_path / "bare").optimizer is None


def test_saving_again_leaves_no_old_files_and_at_no_time_a_broken_model(tmp_path, monkeypatch):
    net = mlp()
    for _ in range(3):
        net.save(tmp_path)
        assert len(os.listdir(tmp_path)) == 2
    before = net.get_weights()
    net.set_weights([w + 1 for w in before])
    replaced = []

    def failing(source, target):
        if len(replaced) == 1:
            raise OSError("disk full")
        replaced.append(target)
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        net.save(tmp_path)
    monkeypatch.undo()
    assert all(np.array_equal(a, b) for a, b in zip(before, load_layers_model(tmp_path).get_weights(), strict=True))
    net.save(tmp_path)
    assert np.array_equal(load_layers_model(tmp_path).get_weights()[0], before[0] + 1)


def test_names_that_repeat_in_a_nested_model(tmp_path):
    inner = sequential([L.dense(units=4, input_shape=[4], name="d")], name="inner")
    x = L.input(shape=[4])
    net = model(inputs=x, outputs=L.dense(units=4, name="d")(inner(x)))
    net.save(tmp_path)
    xs = data(net)
    assert np.array_equal(net.replay(xs)[0][0], load_layers_model(tmp_path).replay(xs)[0][0])


def test_what_has_no_form_in_a_file_is_refused_before_anything_is_written(tmp_path):
    def mine(y_true, y_pred):
        return y_pred - y_true

    net = mlp()
    net.compile(optimizer="sgd", loss=mine)
    with pytest.raises(SaveError, match="mine"):
        net.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with custom_objects({"mine": mine}):
        net.save(tmp_path / "m")
        assert load_layers_model(tmp_path / "m").loss_functions == [mine]
    odd = sequential([L.activation(activation=lambda x: x, input_shape=[2])])
    with pytest.raises(SaveError, match="register"):
        odd.save(tmp_path / "odd")
    with pytest.raises(SaveError, match="JSON"):
        mlp().save(tmp_path / "meta", metadata={"x": object()})
    assert not (tmp_path / "meta").exists()
    with pytest.raises(SaveError, match="scheme"):
        net.save("localstorage://x")


def _edit(change):
    def edit(folder):
        file = folder / "model.json"
        description = json.loads(file.read_text())
        change(description)
        file.write_text(json.dumps(description))

    return edit


def _set_path(path):
    return _edit(lambda d: d["weightsManifest"][0].update(paths=[path]))


def _weight(**changes):
    return _edit(lambda d: d["weightsManifest"][0]["weights"][0].update(changes))


def _layer(**changes):
    return _edit(lambda d: d["modelTopology"]["config"]["layers"][0]["config"].update(changes))


def _link(folder):
    shutil.move(folder / "weights.bin", folder.parent / "outside.bin")
    (folder / "weights.bin").symlink_to(folder.parent / "outside.bin")


MALFORMED = [
    (lambda f: (f / "model.json").write_text("{"), "invalid_json"),
    (lambda f: (f / "model.json").write_text("[1]"), "invalid_topology"),
    (lambda f: (f / "model.json").unlink(), "missing_file"),
    (lambda f: (f / "weights.bin").unlink(), "missing_file"),
    (lambda f: (f / "weights.bin").write_bytes(b"123"), "truncated_data"),
    (_set_path("../x.bin"), "unsafe_path"),
    (_set_path("/etc/passwd"), "unsafe_path"),
    (_set_path("a/../../x"), "unsafe_path"),
    (_set_path("..\\x"), "unsafe_path"),
    (_set_path("C:\\x"), "unsafe_path"),
    (_set_path(3), "invalid_manifest"),
    (_link, "unsafe_path"),
    (_weight(shape=[2**40, 2]), "truncated_data"),
    (_weight(shape=[8, 6]), "shape_mismatch"),
    (_weight(shape=[-6, -8]), "shape_mismatch"),
    (_weight(dtype="float99"), "unsupported_dtype"),
    (_weight(quantization={"dtype": "uint4"}), "unsupported_dtype"),
    (_weight(name="other/kernel"), "missing_weight"),
    (_layer(units=2**40), "shape_mismatch"),
    (_layer(use_bias=False), "unexpected_weight"),
    (_layer(units="many"), "invalid_topology"),
    (_layer(batch_input_shape="x"), "invalid_topology"),
    (_layer(secret=1), "invalid_topology"),
    (_edit(lambda d: d["modelTopology"].update(class_name="Lambda")), "unsafe_code"),
    (_edit(lambda d: d["modelTopology"].update(class_name="os.system")), "unknown_class"),
    (_edit(lambda d: d["modelTopology"].update(config={})), "invalid_topology"),
    (_edit(lambda d: d.update(format="graph-model")), "unsupported_format"),
]


@pytest.mark.parametrize(("break_it", "category"), MALFORMED)
def test_malformed_files_are_refused_by_category(break_it, category, tmp_path):
    folder = tmp_path / "m"
    mlp().save(folder)
    break_it(folder)
    with pytest.raises(LoadError) as caught:
        load_layers_model(folder)
    assert caught.value.category == category, caught.value


def test_not_strict_loads_what_is_there(tmp_path):
    net = mlp()
    net.save(tmp_path)
    _weight(name="other/kernel")(tmp_path)
    again = load_layers_model(tmp_path, strict=False)
    assert np.array_equal(again.get_weights()[2], net.get_weights()[2])


def test_quantized_entries():
    raw = np.array([0, 128, 255], np.uint8).tobytes()
    entry = artifacts.Entry("w", (3,), "float32", {"dtype": "uint8", "scale": 0.5, "min": -1.0}, None, memoryview(raw))
    assert entry.values().tolist() == [-1.0, 63.0, 126.5]
    half = np.array([1.5, -2], np.float16).tobytes()
    entry = artifacts.Entry("w", (2,), "float32", {"dtype": "float16"}, None, memoryview(half))
    assert entry.values().tolist() == [1.5, -2.0]


SCRIPT = """
const tf = require(process.argv[1]), fs = require('fs'), path = require('path');
(async () => {
  await tf.setBackend('cpu');
  const dir = process.argv[2], x = JSON.parse(process.argv[3]);
  const j = JSON.parse(fs.readFileSync(dir + '/model.json'));
  const b = Buffer.concat(j.weightsManifest.flatMap(g => g.paths.map(p => fs.readFileSync(path.join(dir, p)))));
  const weightData = b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength);
  const weightSpecs = j.weightsManifest.flatMap(g => g.weights);
  const {modelTopology, trainingConfig} = j;
  const m = await tf.loadLayersModel({load: async () => ({modelTopology, weightSpecs, weightData, trainingConfig})});
  const y = m.predict(x.map(v => tf.tensor(v)));
  const out = (Array.isArray(y) ? y : [y]).map(t => t.arraySync());
  const o = m.optimizer;
  const state = o ? {optimizer: o.getClassName(), iterations: o.iterations} : {optimizer: null, iterations: 0};
  console.log('RESULT' + JSON.stringify({out, ...state}));
})();
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not TFJS.exists(), reason="needs node and @tensorflow/tfjs (LAYERFLOW_TFJS)"
)
@pytest.mark.parametrize("make", [mlp, branches])
def test_tfjs_opens_what_we_save(make, tmp_path):
    net = make()
    if make is mlp:
        with_state(net, train.adam(0.01))
    net.save(tmp_path)
    xs = data(net)
    arguments = ["node", "-e", SCRIPT, str(TFJS), str(tmp_path), json.dumps([x.tolist() for x in xs])]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    result = json.loads(done.stdout.split("RESULT")[1])
    for mine, theirs in zip(net.replay(xs)[0], result["out"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert (result["optimizer"], result["iterations"]) == (("Adam", 7) if make is mlp else (None, 0))
