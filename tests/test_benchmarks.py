"""The benchmark: what it counts, compares and refuses.  What other libraries do is not tested here."""

import json
import math
import os
import stat
import sys
import types
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from benchmarks import kernel_report, kernels, layerflow_peer, measure, options, peaks, plot, report, workloads
from benchmarks.__main__ import present
from layerflow.jit import pipeline

MACHINE = {"cpu": "a processor", "cores": "2", "system": "Linux x86_64", "date": "2026-01-01"}


def result(step=100.0, losses=(2.3, 2.2), **more):
    found = {"clock": "wall", "versions": {}, "import_s": 1.0, "disk_mb": 100.0, "other_load": 0.0, "cold_s": 2.0}
    return {**found, "train": {"median": step}, "losses": list(losses), **more}


def book(**cells):
    """Results of W5 on one thread by peer."""
    return report.Book({"machine": MACHINE, "cells": {f"{peer}/W5/1": runs for peer, runs in cells.items()}})


def rows_of(text):
    """The cells of a Markdown table by the first one of their row."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


# --- workloads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "trained", "moving"),
    [
        ("W1", 25_450, 0),
        ("W2", 594_922, 0),
        ("W3", 4 * 128 * (28 + 128 + 1) + 1_290, 0),
        ("W3g", 3 * 128 * (28 + 128 + 2) + 1_290, 0),
        ("W4", 2_109_450, 0),
        ("W5", 5_121, 0),
        ("W6", 94_762, 448),
        ("W7", 2 * (4 * 129 * 128 + 512 * 129 + 128 * 513 + 4 * 128) + 1_290, 0),
    ],
)
def test_workloads_have_their_parameters(name, trained, moving):
    spec = workloads.get(name)
    weights = workloads.init_weights(spec)
    assert sum(array.size for arrays in weights for array in arrays) == trained + moving
    model = layerflow_peer.Peer(1).model(spec, weights)
    assert model.count_params() == trained + moving
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == trained
    mine = [array for layer in model.layers for array in layer.get_weights()]
    for own, given in zip(mine, [array for arrays in weights for array in arrays], strict=True):
        np.testing.assert_array_equal(own, given)


def test_batches_are_the_same_each_time():
    spec = workloads.get("W1")
    first, second = workloads.batches(spec, 2), workloads.batches(spec, 2)
    assert first[0][0].shape == (32, 784)
    assert not np.array_equal(first[0][0], first[1][0])
    for (x, y), (u, v) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


# --- one measurement ----------------------------------------------------------------------


def first_loss(spec):
    """Categorical crossentropy of W1 before any step, by NumPy in float64."""
    (w1, b1), (w2, b2) = workloads.init_weights(spec)
    x, y = workloads.batches(spec)[0]
    logits = np.maximum(x.astype(float) @ w1 + b1, 0) @ w2 + b2
    return float(np.mean(np.log(np.exp(logits).sum(1)) - (logits * y).sum(1)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def last_of_lstm(x, kernel, recurrent, bias):
    h = c = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def last_of_gru(x, kernel, recurrent, bias):
    h = np.zeros((len(x), len(recurrent)))
    for step in range(x.shape[1]):
        a, b = (np.split(z, 3, axis=1) for z in (x[:, step] @ kernel + bias[0], h @ recurrent + bias[1]))
        update, candidate = sigmoid(a[0] + b[0]), np.tanh(a[2] + sigmoid(a[1] + b[1]) * b[2])
        h = update * h + (1 - update) * candidate
    return h


def mean_of_encoder(x, *weights):
    def normal(x, gamma, beta):
        return gamma * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) + beta

    while weights:
        q, qb, k, kb, v, vb, o, ob, g1, b1, wide, wide_bias, back, back_bias, g2, b2, *weights = weights
        q, k, v = (np.einsum("bsf,fhd->bhsd", x, a) + b[:, None] for a, b in ((q, qb), (k, kb), (v, vb)))
        weight = np.exp(q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5)
        found = (weight / weight.sum(-1, keepdims=True)) @ v
        x = normal(x + np.einsum("bhsd,hdf->bsf", found, o) + ob, g1, b1)
        x = normal(x + np.maximum(x @ wide + wide_bias, 0) @ back + back_bias, g2, b2)
    return x.mean(1)


@pytest.mark.parametrize(("name", "body"), [("W3", last_of_lstm), ("W3g", last_of_gru), ("W7", mean_of_encoder)])
def test_sequences_are_what_the_workload_says(name, body):
    """The formulas that all peers follow, in float64; biases are drawn, so that none may be missing."""
    spec, rng = workloads.get(name), np.random.default_rng(3)
    weights = workloads.init_weights(spec)
    weights = [[w + rng.normal(0, 0.1, w.shape).astype(np.float32) for w in arrays] for arrays in weights]
    x = workloads.batches(spec, 1)[0][0][:3]
    *arrays, kernel, bias = [w.astype(float) for arrays in weights for w in arrays]
    odds = np.exp(body(x.astype(float), *arrays) @ kernel + bias)
    found = layerflow_peer.Peer(1).predict(spec, weights)(x)
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), rtol=2e-4)


def test_layerflow_trains_in_this_process():
    spec = workloads.get("W1")
    found: dict[str, Any] = {"import_s": 1.0}
    measure.Measurement(layerflow_peer.Peer(1), spec, 0.02, measure.cpu_clock, found).all(False)
    assert "errors" not in found
    assert len(found["losses"]) == measure.CHECKED
    assert found["losses"][0] == pytest.approx(first_loss(spec), rel=1e-5)
    assert found["losses"][8] < found["losses"][0]  # the first batch comes again
    assert found["cold_s"] > 1.0
    assert found["train"]["p10"] <= found["train"]["median"] <= found["train"]["p90"]
    assert set(found["predict"]) == {"1", "32"}
    assert all(0 < p < 1 for p in found["predict"]["1"]["check"])
    assert found["train_mb"] > 20
    json.dumps(found)


class Guess:
    """A peer that computes nothing and cannot predict."""

    def train(self, spec, weights):
        return types.SimpleNamespace(stage=lambda x, y: x, step=len, wait=float)

    def predict(self, spec, weights):
        raise RuntimeError("no prediction today")

    def predict_api(self, spec, weights):
        return lambda x: np.full((len(x), 10), 0.1)


def test_a_part_that_fails_leaves_the_others():
    found: dict[str, Any] = {"import_s": 0.0}
    measure.Measurement(Guess(), workloads.get("W1"), 0.005, measure.cpu_clock, found).all(False)
    assert found["errors"] == {"predict": "RuntimeError: no prediction today"}
    assert found["losses"] == [32.0] * measure.CHECKED
    assert found["predict_api"]["1"]["check"] == [0.1] * 4


def test_training_alone_stops_before_anything_else():
    found: dict[str, Any] = {"import_s": 0.0}
    measure.Measurement(Guess(), workloads.get("W1"), 0.005, measure.cpu_clock, found).all(True)
    assert set(found) == {"import_s", "cold_s", "losses", "train_mb"}


def test_summary_has_the_median():
    assert measure.summary([3.0, 1.0, 2.0, 100.0, 0.5], 1.0) == {"median": 2.0, "p10": 0.5, "p90": 100.0, "samples": 5}


# --- the report ---------------------------------------------------------------------------


def test_ratios_are_to_the_best_of_the_others():
    found = book(
        layerflow=[result(50.0, fit=3e6)],
        torch=[result(400.0, fit=1e5)],
        jax=[result(120.0, fit=1.5e6), result(90.0, fit=1.5e6), result(100.0, fit=1.5e6)],
    )
    step, fit = found.lines()[0], found.lines()[1]
    assert found.values(step, 1) == {"layerflow": 50.0, "torch": 400.0, "jax": 100.0}  # the median of three processes
    assert found.compare(step, 1) == report.Comparison(2.0, "jax")
    assert found.compare(fit, 1) == report.Comparison(2.0, "jax")
    rows = rows_of(report.markdown(found))
    assert rows["W5 train step, µs"] == ["**50**", "400", "100", "2.0x (jax)"]
    assert rows["W5 fit, highest-level call, rows/s"] == ["**3,000,000**", "100,000", "1,500,000", "2.0x (jax)"]
    assert rows_of(report.ratios(found))["MLP 13-64-64-1, batch 32, Adam: train step"] == ["2.0x (jax)"]


def test_a_slower_layerflow_is_told_of():
    found = book(layerflow=[result(200.0)], torch=[result(100.0)])
    assert rows_of(report.markdown(found))["W5 train step, µs"] == ["200", "**100**", "0.50x (torch)"]


@pytest.mark.parametrize("peers", [["layerflow", "torch", "jax"], ["layerflow", "torch"]])
@pytest.mark.parametrize("wrong", [[2.3, 2.5], [2.3, math.nan], [math.nan, 2.2]])
def test_parity_notices_a_wrong_loss(peers, wrong):
    right = {peer: [result()] for peer in peers}
    assert rows_of(report.parity(book(**right)))["W5 losses"][-1] == "yes"
    verdict = rows_of(report.parity(book(**{**right, "layerflow": [result(losses=wrong)]})))["W5 losses"][-1]
    assert verdict.startswith("**no: ")
    assert "layerflow" in verdict
    if len(peers) == 3:
        assert "torch" not in verdict


def test_failures_missing_peers_and_disturbed_runs_are_listed():
    cells = {"layerflow/W5/1": [result(other_load=0.5)], "jax/W5/1": [{"error": "stopped after 300 s"}]}
    missing = {"torch": "ModuleNotFoundError: No module named 'torch'"}
    text = report.markdown(report.Book({"machine": MACHINE, "cells": cells, "missing": missing}))
    assert "torch is left out, it does not start: ModuleNotFoundError" in text
    assert "jax/W5/1: stopped after 300 s" in text
    assert "layerflow/W5/1: other processes took 50% of the CPUs" in text


def test_insert_replaces_what_is_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- ratios: begin -->\nold\n<!-- ratios: end -->\nb\n")
    report.insert(page, {"ratios": "new\n", "results": "long\n"})
    assert page.read_text() == "a\n<!-- ratios: begin -->\nnew\n<!-- ratios: end -->\nb\n"
    with pytest.raises(ValueError, match="kernels: begin"):
        report.insert(page, {"kernels": "new\n"})


def test_without_matplotlib_a_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plot.ratios(book(layerflow=[result()], torch=[result()]), tmp_path / "picture.png")
    assert "matplotlib is missing" in capsys.readouterr().out
    assert not (tmp_path / "picture.png").exists()


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `viz`")
    plot.ratios(book(layerflow=[result()], torch=[result(200.0)]), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


# --- the command --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "layerflow,nobody"], "there is no peer 'nobody'; those there are: layerflow, torch"),
        (["--workloads", "W9"], "there is no workload 'W9'; those there are: W1, W2, W3, W3g, W4"),
        (["--threads", "two"], "'two' is not a number"),
        (["--threads", "0"], "there is no number of threads '0'"),
        (["--cpus", "0", "--threads", "2"], "2 threads need as many CPUs, there are 1"),
        (["--threads", "1", "--peers-python", "/no/such/python"], "there is no program '/no/such/python'"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        options.parsed(arguments)
    assert message in capsys.readouterr().err


def test_a_report_alone_needs_no_cpus():
    assert options.parsed(["--report-only", "--cpus", "0"]).threads == [1, 2]


@pytest.mark.skipif(os.name != "posix", reason="makes a shell script")
def test_a_peer_that_is_not_there_is_left_out(tmp_path, capsys):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    cpu = str(min(os.sched_getaffinity(0)))
    chosen = options.parsed(["--peers", "torch", "--peers-python", str(python), "--threads", "1", "--cpus", cpu])
    found: dict[str, Any] = {}
    assert present(chosen, found) == []
    assert found["missing"] == {"torch": "ModuleNotFoundError: No module named 'torch'"}
    assert "torch is left out" in capsys.readouterr().out


# --- kernels ------------------------------------------------------------------------------


def test_peaks_are_positive_and_consistent():
    core = peaks.Machine()
    assert core.gflops > 0.1
    before = core.gflops
    core.refresh()
    assert core.gflops >= before
    # A core reads no more than two vectors a cycle and does at most two vectors of multiply-adds.
    assert 0.1 < core.read_rate(1 << 14) < 40 * core.gflops
    assert 1e6 < peaks.ticks_per_second() < 1e10


def plan_of(model, x, y):
    return pipeline.lower(model.step("train").graph([x], [y])).plan


def counted(plan, rows, count):
    """Multiply-adds of all contractions for a batch, by the pass they belong to."""
    found: dict[str, Any] = {}
    for kernel in plan.kernels:
        outside = kernels.outside_of(kernel)
        for op, times in kernels.contractions(kernel).items():
            done = count(op) * times * (rows if kernels.uses_batch(op) else 1)
            found[kernels.pass_of(op, outside)] = found.get(kernels.pass_of(op, outside), 0) + done
    return found


def two_convolutions():
    layers = [
        lf.layers.conv2d(filters=32, kernel_size=3, padding="same", input_shape=[16, 16, 16]),
        lf.layers.conv2d(filters=32, kernel_size=3),
        lf.layers.global_average_pooling2d(),
    ]
    model = lf.sequential(layers)
    model.compile("sgd", "meanSquaredError")
    return model


def test_multiply_adds_of_convolutions_do_not_depend_on_the_algorithm():
    x, y = np.zeros((4, 16, 16, 16), np.float32), np.zeros((4, 32), np.float32)
    first, second = 4 * 9 * 16 * 16 * 16 * 32, 4 * 9 * 14 * 14 * 32 * 32
    expected = {kernels.FORWARD: first + second, kernels.INPUT: second, kernels.WEIGHTS: first + second}
    before, methods = lf.config.winograd(), []
    try:
        for mode in (True, False):
            lf.config.set_winograd(mode)
            plan = plan_of(two_convolutions(), x, y)
            methods.append({kernels.method_of(op) for k in plan.kernels for op in kernels.contractions(k)})
            assert counted(plan, 4, kernels.direct_multiply_adds) == pytest.approx(expected)
    finally:
        lf.config.set_winograd(before)
    assert methods == [{kernels.WINOGRAD}, {kernels.DIRECT}]


def test_multiply_adds_of_a_loop_are_those_of_all_its_steps():
    steps, features, units, rows = 7, 5, 32, 4
    model = lf.sequential([lf.layers.lstm(units=units, input_shape=[steps, features])])
    model.compile("sgd", "meanSquaredError")
    x, y = np.zeros((rows, steps, features), np.float32), np.zeros((rows, units), np.float32)
    inputs, states = rows * steps * features * 4 * units, rows * steps * units * 4 * units
    # The state before the first step is zero, and its gradient is nobody's: each direction leaves one product out.
    spared = rows * units * 4 * units
    expected = {
        kernels.FORWARD: inputs + states - spared,
        kernels.INPUT: states - spared,
        kernels.WEIGHTS: inputs + states,
    }
    assert counted(plan_of(model, x, y), rows, kernels.multiply_adds) == pytest.approx(expected)


def test_multiply_adds_of_attention_count_the_scores_once_a_kernel():
    steps, heads, depth, rows = 128, 4, 8, 3
    inputs = lf.input(shape=[steps, heads * depth])
    attended = lf.layers.multi_head_attention(num_heads=heads, key_dim=depth).apply([inputs, inputs])
    model = lf.model(inputs=inputs, outputs=attended)
    model.compile("sgd", "meanSquaredError")
    x = np.zeros((rows, steps, heads * depth), np.float32)
    found = [k for k in plan_of(model, x, x).kernels if any(map(kernels.is_attention, kernels.contractions(k)))]
    product = rows * steps * steps * heads * depth
    # Scores and outputs; then scores again, their slopes, and the gradients of queries, keys and values.
    assert [kernels.multiply_adds_of(k, rows) for k in found] == [2 * product, 5 * product]


@pytest.mark.parametrize("layer", ["lstm", "gru"])
def test_kernels_of_a_recurrent_step_are_timed(layer):
    model = lf.sequential([getattr(lf.layers, layer)(units=32, input_shape=[6, 4]), lf.layers.dense(units=2)])
    model.compile("adam", "meanSquaredError")
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(8, 6, 4)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32)
    timings = [t for t in kernels.Profiler(model, [batch]).timings(0.05) if t.method == kernels.LOOP]
    assert [t.passes for t in timings] == [[kernels.FORWARD], [kernels.INPUT]]
    assert all(t.sizes.startswith("6 steps of 8 x ") and 0 < t.seconds < 1 and t.flops > 0 for t in timings)
    assert "tanh" in timings[0].fused


def test_kernels_of_a_step_are_timed():
    spec = workloads.get("W5")
    model = layerflow_peer.Peer(1).model(spec, workloads.init_weights(spec))
    profiler = kernels.Profiler(model, workloads.batches(spec))
    timings = [t for t in profiler.timings(0.05) if t.method]
    sizes = [13 * 64, 64 * 64, 64]
    assert sum(t.flops for t in timings if kernels.FORWARD in t.passes) == 2 * 32 * sum(sizes)
    assert sum(t.flops for t in timings if kernels.INPUT in t.passes) == 2 * 32 * sum(sizes[1:])
    assert sum(t.flops for t in timings if kernels.WEIGHTS in t.passes) == 2 * 32 * sum(sizes)
    peak = peaks.Machine().gflops
    for timing in timings:
        assert 0 < timing.flops / timing.seconds / 1e9 < 1.5 * peak, timing
        assert 0 < timing.repeated < 1
        assert timing.updates == (kernels.WEIGHTS in timing.passes) == timing.fused.endswith("update of the weights")
    assert "relu" in next(t.fused for t in timings if t.sizes == "32 x 13 by 13 x 64")


def timing(sizes, flops, seconds, method=kernels.GEMM, updates=False, direct=None):
    passes = [kernels.WEIGHTS if updates else kernels.FORWARD]
    about = (f"k_{sizes}", method, passes, sizes, "Adam update of the weights" if updates else "", updates)
    return kernels.Timing(*about, seconds, seconds / 2, flops, direct or flops, 4e6)


def test_kernels_are_summed_up_by_kind():
    timings = [
        timing("a", 60e9, 1.0),
        timing("b", 40e9, 1.0),
        timing("tiny", 1e6, 0.01),  # below one percent of the step
        timing("c", 30e9, 1.0, updates=True),
        timing("3x3, 8x8, 4 to 4", 50e9, 1.0, kernels.WINOGRAD, direct=200e9),
        timing("", 0.0, 1.0, ""),
    ]
    section, core = kernel_report.Section("W2", True, 5.2, 0.3, timings), kernel_report.Peaks(100.0, {"memory": 10.0})
    text = kernel_report.markdown(core, [section], MACHINE)
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| W2 |")]
    assert {row[1]: [cell.strip() for cell in row[2:7]] for row in found} == {
        "GEMM without an update": ["2", "40%", "50%", "40%", "100%"],
        "GEMM with the update of the weights": ["1", "20%", "30%", "30%", "60%"],
        "Winograd F(4x4, 3x3)": ["1", "20%", "50%", "50%", "100%"],
    }
    assert any(row[-1].strip(" |") == "200%" for row in found)  # Winograd as if it were direct
    assert "GEMM: gradient for weights, c | Adam update of the weights | 1000.000 |" in text
    assert "1 others" in text
    assert "Other processes took a part of the core: W2 (30%)." in text
