"""Layers whose numbers come from Keras: class, configuration, input shapes, keywords of the call.

A mask or a list of masks is given by names of arrays; see `keras_layers.py`, which makes `keras_layers.npz` of them.
"""

CASES = {
    "attention": ("Attention", {}, [(2, 3, 4), (2, 5, 4)], {}),
    "attention_scale": ("Attention", {"use_scale": True}, [(2, 3, 4), (2, 5, 4), (2, 5, 4)], {"masks": (3, 5)}),
    "attention_causal": ("Attention", {}, [(2, 4, 3), (2, 4, 3)], {"use_causal_mask": True}),
    "attention_concat": (
        "Attention",
        {"score_mode": "concat", "use_scale": True},
        [(2, 3, 4), (2, 5, 4)],
        {"masks": (None, 5)},
    ),
    "additive": ("AdditiveAttention", {}, [(2, 3, 4), (2, 5, 4)], {"masks": (3, 5)}),
    "heads_causal": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [(2, 4, 5)] * 2, {"use_causal_mask": True}),
    "heads_masked": (
        "MultiHeadAttention",
        {"num_heads": 2, "key_dim": 3, "output_shape": 7},
        [(2, 4, 5), (2, 3, 6)],
        {"attention_mask": (2, 4, 3)},
    ),
    "heads_axes": (
        "MultiHeadAttention",
        {"num_heads": 2, "key_dim": 3, "attention_axes": [2]},
        [(2, 4, 3, 5), (2, 4, 3, 5)],
        {},
    ),
    "heads_all_axes": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [(2, 2, 3, 5), (2, 2, 3, 5)], {}),
    "grouped": (
        "GroupQueryAttention",
        {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
        [(2, 4, 5), (2, 3, 5)],
        {},
    ),
    "group_norm": ("GroupNormalization", {"groups": 2}, [(2, 3, 3, 6)], {}),
    "group_norm_first": ("GroupNormalization", {"groups": -1, "axis": 1}, [(2, 3, 4)], {}),
    "rms": ("RMSNormalization", {}, [(2, 3, 6)], {}),
    "unit": ("UnitNormalization", {"axis": 1}, [(2, 3, 4)], {}),
    "einsum_front": (
        "EinsumDense",
        {"equation": "...x,xy->...y", "output_shape": 4, "bias_axes": "y"},
        [(2, 3, 5)],
        {},
    ),
    "gru_after_masked": (
        "GRU",
        {"units": 3, "return_sequences": True, "reset_after": True, "recurrent_activation": "sigmoid"},
        [(3, 5, 2)],
        {"mask": (3, 5)},
    ),
    "lstm_zero_masked": (
        "LSTM",
        {
            "units": 3,
            "return_sequences": True,
            "zero_output_for_mask": True,
            "go_backwards": True,
            "recurrent_activation": "sigmoid",
        },
        [(3, 5, 2)],
        {"mask": (3, 5)},
    ),
    "conv_lstm": (
        "ConvLSTM2D",
        {
            "filters": 2,
            "kernel_size": [3, 2],
            "strides": [2, 1],
            "padding": "same",
            "return_sequences": True,
            "recurrent_activation": "sigmoid",
        },
        [(2, 3, 5, 4, 2)],
        {},
    ),
    "time_distributed_lstm": (
        "TimeDistributed",
        {"layer": {"class_name": "LSTM", "config": {"units": 3, "recurrent_activation": "sigmoid"}}},
        [(2, 3, 4, 2)],
        {},
    ),
    "normalization": (
        "Normalization",
        {"mean": [0.5, 1.0, -1.0], "variance": [1.0, 4.0, 0.25]},
        [(4, 3)],
        {},
    ),
    "discretization": ("Discretization", {"bin_boundaries": [-0.5, 0.0, 0.7]}, [(4, 3)], {}),
    "discretization_one_hot": (
        "Discretization",
        {"bin_boundaries": [-0.5, 0.0, 0.7], "output_mode": "one_hot"},
        [(4, 1)],
        {},
    ),
}
