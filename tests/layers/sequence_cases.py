"""Rows of the table of layers (test_layers.py) that work on sequences: class, settings, input shapes, output shape.

The fifth entry is explained in check.py (`Row`).
"""

from layerflow import layers as L

_GRU = {"class_name": "GRUCell", "config": {"units": 3, "reset_after": True}}
_LSTM = {"class_name": "LSTMCell", "config": {"units": 2}}
_LAYER = {"class_name": "LSTM", "config": {"units": 3, "return_sequences": True}}
_WHOLE = {"whole": 5}
_PAIR = [(2, 4, 3), (2, 5, 3)]

SEQUENCES = [
    (L.SimpleRNN, {"units": 4}, [(2, 5, 3)], (2, 4)),
    (L.SimpleRNN, {"units": 4, "return_sequences": True, "use_bias": False}, [(2, 5, 3)], (2, 5, 4)),
    (L.GRU, {"units": 4, "return_sequences": True}, [(2, 5, 3)], (2, 5, 4)),
    (L.GRU, {"units": 4, "reset_after": True, "go_backwards": True}, [(2, 5, 3)], (2, 4)),
    (L.LSTM, {"units": 4, "unit_forget_bias": True}, [(2, 5, 3)], (2, 4)),
    (L.LSTM, {"units": 3, "go_backwards": True, "return_sequences": True}, [(2, 5, 3)], (2, 5, 3)),
    (L.LSTM, {"units": 3, "activation": "softsign"}, [(2, 5, 4), (2, 3), (2, 3)], (2, 3)),
    (L.RNN, {"cell": _GRU, "return_sequences": True}, [(2, 5, 4)], (2, 5, 3)),
    (L.RNN, {"cell": [_GRU, _LSTM]}, [(2, 5, 4)], (2, 2)),
    (L.Bidirectional, {"layer": _LAYER}, [(2, 5, 4)], (2, 5, 6)),
    (L.Bidirectional, {"layer": _LAYER, "merge_mode": "mul"}, [(2, 5, 4)], (2, 5, 3)),
    (L.TimeDistributed, {"layer": {"class_name": "Dense", "config": {"units": 2}}}, [(2, 5, 4)], (2, 5, 2)),
    (L.TimeDistributed, {"layer": _LAYER}, [(2, 3, 4, 2)], (2, 3, 4, 3)),
    (L.ConvLSTM2D, {"filters": 2, "kernel_size": 2, "padding": "same"}, [(2, 3, 4, 4, 1)], (2, 4, 4, 2)),
    (L.Embedding, {"input_dim": 5, "output_dim": 3}, [(2, 4)], (2, 4, 3), _WHOLE),
    (L.Embedding, {"input_dim": 5, "output_dim": 3, "mask_zero": True}, [(2, 4)], (2, 4, 3), _WHOLE),
    (L.Embedding, {"input_dim": 5, "output_dim": 3, "input_length": 4}, [(2, 4)], (2, 4, 3), {**_WHOLE, "time": None}),
    (L.PositionEmbedding, {"sequence_length": 8}, [(2, 4, 3)], (2, 4, 3)),
    (L.Masking, {"mask_value": 0.5}, [(2, 4, 3)], (2, 4, 3), {"across": True}),  # the mask that arrives ends here
    (L.Attention, {"use_scale": True}, _PAIR, (2, 4, 3)),
    (L.Attention, {"score_mode": "concat"}, [(2, 4, 3), (2, 5, 3), (2, 5, 3)], (2, 4, 3)),
    (L.AdditiveAttention, {}, _PAIR, (2, 4, 3)),
    (L.MultiHeadAttention, {"num_heads": 2, "key_dim": 3}, _PAIR, (2, 4, 3)),
    (L.MultiHeadAttention, {"num_heads": 1, "key_dim": 2, "value_dim": 3, "output_shape": 4}, _PAIR, (2, 4, 4)),
    (L.GroupQueryAttention, {"head_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2}, _PAIR, (2, 4, 3)),
    (L.EinsumDense, {"equation": "ab,bc->ac", "output_shape": 4, "bias_axes": "c"}, [(2, 3)], (2, 4)),
    (L.EinsumDense, {"equation": "...x,xy->...y", "output_shape": 4, "activation": "tanh"}, [(2, 5, 3)], (2, 5, 4)),
    (
        L.EinsumDense,
        {"equation": "abc,cde->abde", "output_shape": [None, 2, 4], "bias_axes": "e"},
        [(2, 5, 3)],
        (2, 5, 2, 4),
    ),
]

FEATURES = [
    (L.GaussianNoise, {"stddev": 0.3}, [(2, 4, 3)], (2, 4, 3)),
    (L.GaussianDropout, {"rate": 0.3}, [(2, 4, 3)], (2, 4, 3)),
    (L.AlphaDropout, {"rate": 0.3, "noise_shape": [None, None, 1]}, [(2, 4, 3)], (2, 4, 3)),
    (L.GroupNormalization, {"groups": 2}, [(2, 3, 3, 4)], (2, 3, 3, 4), {"across": True}),
    (L.GroupNormalization, {"groups": -1, "axis": 1, "center": False}, [(2, 3, 4)], (2, 3, 4), {"time": False}),
    (L.RMSNormalization, {}, [(2, 3, 4)], (2, 3, 4)),
    (L.RMSNormalization, {"axis": [1, -1]}, [(2, 3, 4)], (2, 3, 4), {"time": False, "across": True}),
    (L.UnitNormalization, {}, [(2, 3, 4)], (2, 3, 4)),
    (L.Normalization, {"mean": [0.5, 1.0, 2.0], "variance": [1.0, 4.0, 2.0]}, [(2, 4, 3)], (2, 4, 3)),
    (L.Normalization, {"axis": None, "mean": 1.0, "variance": 4.0, "invert": True}, [(2, 3)], (2, 3)),
    (L.Discretization, {"bin_boundaries": [-0.5, 0.0, 0.5]}, [(2, 3)], (2, 3), {"gradient": False}),
    (L.CategoryEncoding, {"num_tokens": 5}, [(2, 3)], (2, 5), _WHOLE),
    (L.CategoryEncoding, {"num_tokens": 5, "output_mode": "count"}, [(2, 3)], (2, 5), _WHOLE),
    (L.CategoryEncoding, {"num_tokens": 5, "output_mode": "oneHot"}, [(2, 3)], (2, 3, 5), _WHOLE),
    (L.Function, {"function": "softsign"}, [(2, 4, 3)], (2, 4, 3)),
]

# Cells are layers too: called with the input and the states, they give the output and the states.
CELLS = [
    (L.SimpleRNNCell, {"units": 4}, 1),
    (L.GRUCell, {"units": 4, "reset_after": True}, 1),
    (L.LSTMCell, {"units": 4, "unit_forget_bias": True}, 2),
    (L.StackedRNNCells, {"cells": [_GRU, {"class_name": "LSTMCell", "config": {"units": 4}}]}, 3),
    (L.ConvLSTM2DCell, {"filters": 4, "kernel_size": 3, "padding": "same"}, 2),
]
