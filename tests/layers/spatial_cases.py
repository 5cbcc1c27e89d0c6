"""Rows of the table of layers: convolution, pooling, resizing and normalization, with the shapes of TF.js.

The fifth entry is explained in check.py (`Row`).
"""

from layerflow import layers as L

_IMAGE = [(2, 6, 5, 4)]
_STEPS = [(2, 7, 4)]
_CUBE = [(2, 4, 5, 3, 2)]
_FIXED = {"time": False}  # axis 1 has weights
_ACROSS = {**_FIXED, "across": True}

CONVOLUTION = [
    (L.Conv1D, {"filters": 3, "kernel_size": 3, "activation": "tanh"}, _STEPS, (2, 5, 3)),
    (L.Conv1D, {"filters": 3, "kernel_size": [3], "padding": "causal", "dilation_rate": 2}, _STEPS, (2, 7, 3)),
    (L.Conv1D, {"filters": 4, "kernel_size": 2, "strides": 3, "padding": "same", "groups": 2}, _STEPS, (2, 3, 4)),
    (L.Conv1D, {"filters": 3, "kernel_size": 2, "data_format": "channelsFirst"}, [(2, 4, 7)], (2, 3, 6), _FIXED),
    (L.Conv2D, {"filters": 3, "kernel_size": 3}, _IMAGE, (2, 4, 3, 3)),
    (L.Conv2D, {"filters": 3, "kernel_size": [2, 3], "strides": [2, 1], "use_bias": False}, _IMAGE, (2, 3, 3, 3)),
    (L.Conv2D, {"filters": 6, "kernel_size": 3, "padding": "same", "groups": 2, "strides": 2}, _IMAGE, (2, 3, 3, 6)),
    (L.Conv2D, {"filters": 2, "kernel_size": 2, "dilation_rate": [2, 1]}, _IMAGE, (2, 4, 4, 2)),
    (
        L.Conv2D,
        {"filters": 3, "kernel_size": 3, "data_format": "channels_first", "bias_initializer": "ones"},
        [(2, 2, 4, 5)],
        (2, 3, 2, 3),
        _FIXED,
    ),
    (L.Conv3D, {"filters": 3, "kernel_size": 2, "activation": "sigmoid"}, _CUBE, (2, 3, 4, 2, 3)),
    (L.Conv3D, {"filters": 2, "kernel_size": [3, 1, 2], "strides": 2, "padding": "same"}, _CUBE, (2, 2, 3, 2, 2)),
    (L.Conv1DTranspose, {"filters": 3, "kernel_size": 3, "strides": 2}, _STEPS, (2, 15, 3)),
    (L.Conv2DTranspose, {"filters": 3, "kernel_size": 3}, _IMAGE, (2, 8, 7, 3)),
    (L.Conv2DTranspose, {"filters": 3, "kernel_size": [2, 4], "strides": [3, 2]}, _IMAGE, (2, 18, 12, 3)),
    (L.Conv2DTranspose, {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}, _IMAGE, (2, 12, 10, 2)),
    (
        L.Conv2DTranspose,
        {"filters": 2, "kernel_size": 3, "strides": 2, "output_padding": 1, "data_format": "channels_first"},
        [(2, 4, 3, 2)],
        (2, 2, 8, 6),
        _FIXED,
    ),
    (L.Conv3DTranspose, {"filters": 2, "kernel_size": 2, "strides": [1, 2, 1]}, _CUBE, (2, 5, 10, 4, 2)),
    (L.DepthwiseConv1D, {"kernel_size": 3, "depth_multiplier": 2}, _STEPS, (2, 5, 8)),
    (L.DepthwiseConv2D, {"kernel_size": 3, "padding": "same", "dilation_rate": 2}, _IMAGE, (2, 6, 5, 4)),
    (L.DepthwiseConv2D, {"kernel_size": 2, "depth_multiplier": 3, "strides": 2}, _IMAGE, (2, 3, 2, 12)),
    (L.DepthwiseConv2D, {"kernel_size": 2, "data_format": "channelsFirst"}, [(2, 3, 4, 5)], (2, 3, 3, 4), _FIXED),
    (L.SeparableConv1D, {"filters": 3, "kernel_size": 3}, _STEPS, (2, 5, 3)),
    (L.SeparableConv2D, {"filters": 3, "kernel_size": 3, "depth_multiplier": 2}, _IMAGE, (2, 4, 3, 3)),
    (
        L.SeparableConv2D,
        {"filters": 3, "kernel_size": 2, "padding": "same", "data_format": "channels_first", "activation": "relu"},
        [(2, 4, 3, 5)],
        (2, 3, 3, 5),
        _FIXED,
    ),
]

POOLING = [
    (L.MaxPooling1D, {}, _STEPS, (2, 3, 4)),
    (L.MaxPooling1D, {"pool_size": 3, "strides": 2, "padding": "same"}, _STEPS, (2, 4, 4)),
    (L.MaxPooling2D, {}, _IMAGE, (2, 3, 2, 4)),
    (L.MaxPooling2D, {"pool_size": [3, 2], "strides": 1}, _IMAGE, (2, 4, 4, 4)),
    (L.MaxPooling2D, {"data_format": "channels_first", "padding": "same"}, [(2, 3, 5, 4)], (2, 3, 3, 2)),
    (L.MaxPooling3D, {"pool_size": [2, 2, 1]}, _CUBE, (2, 2, 2, 3, 2)),
    (L.AveragePooling1D, {"pool_size": [3], "padding": "same"}, _STEPS, (2, 3, 4)),
    (L.AveragePooling2D, {"pool_size": 2}, _IMAGE, (2, 3, 2, 4)),
    (L.AveragePooling2D, {"pool_size": 3, "strides": 2, "padding": "same"}, _IMAGE, (2, 3, 3, 4)),
    (L.AveragePooling3D, {}, _CUBE, (2, 2, 2, 1, 2)),
    (L.GlobalMaxPooling1D, {}, _STEPS, (2, 4)),
    (L.GlobalMaxPooling2D, {"keepdims": True}, _IMAGE, (2, 1, 1, 4)),
    (L.GlobalMaxPooling3D, {}, _CUBE, (2, 2)),
    (L.GlobalAveragePooling1D, {}, _STEPS, (2, 4)),
    (L.GlobalAveragePooling1D, {"data_format": "channels_first"}, [(2, 4, 7)], (2, 4), {"mask_axis": 2}),
    (L.GlobalAveragePooling2D, {}, _IMAGE, (2, 4)),
    (L.GlobalAveragePooling3D, {}, _CUBE, (2, 2)),
]

RESIZING = [
    (L.ZeroPadding1D, {"padding": [2, 1]}, _STEPS, (2, 10, 4)),
    (L.ZeroPadding2D, {}, _IMAGE, (2, 8, 7, 4)),
    (L.ZeroPadding2D, {"padding": [[0, 1], [2, 0]], "data_format": "channels_first"}, _IMAGE, (2, 6, 6, 6)),
    (L.ZeroPadding3D, {"padding": [1, 0, 2]}, _CUBE, (2, 6, 5, 7, 2)),
    (L.Cropping1D, {"cropping": [2, 1]}, _STEPS, (2, 4, 4)),
    (L.Cropping2D, {"cropping": [[1, 2], [0, 1]]}, _IMAGE, (2, 3, 4, 4)),
    (L.Cropping2D, {}, _IMAGE, (2, 6, 5, 4)),
    (L.Cropping3D, {}, _CUBE, (2, 2, 3, 1, 2)),
    (L.UpSampling1D, {"size": 3}, _STEPS, (2, 21, 4)),
    (L.UpSampling2D, {"size": [2, 3]}, _IMAGE, (2, 12, 15, 4)),
    (L.UpSampling2D, {"interpolation": "bilinear"}, _IMAGE, (2, 12, 10, 4)),
    (L.UpSampling2D, {"data_format": "channels_first"}, [(2, 3, 4, 5)], (2, 3, 8, 10)),
    (L.UpSampling3D, {"size": [1, 2, 3]}, _CUBE, (2, 4, 10, 9, 2)),
    (L.Rescaling, {"scale": 0.5, "offset": -1}, _IMAGE, (2, 6, 5, 4)),
    (L.Resizing, {"height": 4, "width": 7}, _IMAGE, (2, 4, 7, 4)),
    (L.Resizing, {"height": 8, "width": 3, "interpolation": "nearest"}, _IMAGE, (2, 8, 3, 4)),
    (L.CenterCrop, {"height": 3, "width": 4}, _IMAGE, (2, 3, 4, 4)),
    (L.CenterCrop, {"height": 8, "width": 4, "data_format": "channels_first"}, _IMAGE, (2, 6, 8, 4)),
    (L.RandomWidth, {"factor": 0.3, "seed": 4}, _IMAGE, (2, 6, 5, 4), {"trains": False}),
    (L.SpatialDropout1D, {"rate": 0.5}, _STEPS, (2, 7, 4)),
    (L.SpatialDropout2D, {"rate": 0.5, "data_format": "channels_first"}, _IMAGE, (2, 6, 5, 4)),
    (L.SpatialDropout3D, {"rate": 0.5}, _CUBE, (2, 4, 5, 3, 2)),
]

NORMALIZATION = [
    (L.BatchNormalization, {}, [(3, 4)], (3, 4)),
    (L.BatchNormalization, {"axis": 1, "scale": False}, _IMAGE, (2, 6, 5, 4), _FIXED),
    (L.BatchNormalization, {"axis": [-1], "center": False, "epsilon": 0.1}, _CUBE, (2, 4, 5, 3, 2)),
    (L.LayerNormalization, {}, _STEPS, (2, 7, 4)),
    (L.LayerNormalization, {"axis": [1, 3], "epsilon": 0.01}, _IMAGE, (2, 6, 5, 4), _ACROSS),
    (L.LayerNormalization, {"axis": 1, "scale": False, "center": False}, _IMAGE, (2, 6, 5, 4), _ACROSS),
]

SPATIAL = CONVOLUTION + POOLING + RESIZING + NORMALIZATION
