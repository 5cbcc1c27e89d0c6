"""Wrong use of the layers over spatial axes is refused when it is found; the message names layer, shapes and remedy."""

from __future__ import annotations

import numpy as np
import pytest

from layerflow import layers as L
from layerflow.errors import ArgumentError, DataError, ShapeError, UnknownArgumentError
from layerflow.models.sequential import sequential

IMAGE = (2, 6, 5, 4)

# What is wrong with the input: layer, shape of the input, what the message must hold besides the layer's name.
INPUTS = {
    "kernel larger than the input": (L.Conv2D, {"filters": 2, "kernel_size": 7}, IMAGE, ["[7, 7]", "6", "5", "same"]),
    "kernel larger in one axis": (L.Conv2D, {"filters": 2, "kernel_size": [1, 6]}, IMAGE, ["[1, 6]", "smaller"]),
    "dilated kernel": (L.Conv1D, {"filters": 2, "kernel_size": 3, "dilation_rate": 4}, (2, 7, 4), ["[9]", "[7]"]),
    "kernel in 3 axes": (L.Conv3D, {"filters": 1, "kernel_size": 3}, (2, 4, 4, 2, 1), ["[3, 3, 3]", "[4, 4, 2]"]),
    "depthwise kernel": (L.DepthwiseConv2D, {"kernel_size": 8}, IMAGE, ["[8, 8]", "same"]),
    "separable kernel": (L.SeparableConv2D, {"filters": 2, "kernel_size": 8}, IMAGE, ["[8, 8]", "same"]),
    "pool larger than the input": (L.MaxPooling2D, {"pool_size": [7, 2]}, IMAGE, ["[7, 2]", "same"]),
    "mean over more than there is": (L.AveragePooling1D, {"pool_size": 9}, (2, 7, 4), ["[9]", "[7]", "same"]),
    "no channel axis": (L.Conv2D, {"filters": 2, "kernel_size": 3}, (2, 28, 28), ["[2,28,28]", "4", "x[..., None]"]),
    "no channel axis, channels first": (
        L.Conv2D,
        {"filters": 2, "kernel_size": 3, "data_format": "channels_first"},
        (2, 28, 28),
        ["channels, height, width", "x[:, None]"],
    ),
    "one axis too many": (L.Conv1D, {"filters": 2, "kernel_size": 3}, IMAGE, ["[2,6,5,4]", "[batch, steps, channels]"]),
    "flat images": (L.MaxPooling2D, {}, (2, 784), ["[2,784]", "height, width", "reshape layer"]),
    "channels last where first belong": (
        L.Conv2D,
        {"filters": 2, "kernel_size": 3, "data_format": "channels_first"},
        (2, 28, 28, 1),
        ["[28, 1]", "[2,28,28,1]", "data_format='channels_last'"],
    ),
    "channels first where last belong": (
        L.MaxPooling2D,
        {},
        (2, 1, 28, 28),
        ["[1, 28]", "[2,1,28,28]", "data_format='channels_first'"],
    ),
    "rank of a global mean": (L.GlobalAveragePooling2D, {}, (2, 7, 4), ["[2,7,4]", "4 axes"]),
    "rank of upsampling": (L.UpSampling2D, {}, (2, 7, 4), ["[2,7,4]"]),
    "rank of padding": (L.ZeroPadding2D, {}, (2, 7, 4), ["[2,7,4]"]),
    "rank of dropout": (L.SpatialDropout2D, {"rate": 0.5}, (2, 7, 4), ["[2,7,4]"]),
    "channels and groups": (L.Conv2D, {"filters": 6, "kernel_size": 3, "groups": 3}, IMAGE, ["4 channels", "3 groups"]),
    "nothing is left": (L.Cropping2D, {"cropping": [[3, 3], [0, 0]]}, IMAGE, ["[3, 3]", "[2,6,5,4]", "less"]),
    "an axis that is not there": (L.BatchNormalization, {"axis": 4}, IMAGE, ["axis 4", "[2,6,5,4]", "1 to 3"]),
    "the batch as channels": (L.BatchNormalization, {"axis": 0}, IMAGE, ["axis 0", "-1"]),
    "layer normalization's axis": (L.LayerNormalization, {"axis": [1, 4]}, IMAGE, ["axis 4", "1 to 3"]),
    "no channels at all": (L.Conv2D, {"filters": 2, "kernel_size": 1}, (2, 6, 5, 0), ["no channels"]),
    "no pixels": (L.Conv2D, {"filters": 2, "kernel_size": 1}, (2, 0, 5, 1), ["[2,0,5,1]"]),
}


@pytest.mark.parametrize("symbolic", [False, True], ids=["eager", "symbolic"])
@pytest.mark.parametrize("case", INPUTS)
def test_input_is_refused(case, symbolic):
    cls, settings, shape, words = INPUTS[case]
    layer = cls(**settings, name="mine")
    x = L.input(shape=shape[1:]) if symbolic else np.ones(shape, np.float32)
    with pytest.raises(ShapeError) as caught:
        layer.apply(x)
    if symbolic:
        words = [word.replace("[2,", "[null,") for word in words]
    assert all(word in str(caught.value) for word in ["mine", *words]), str(caught.value)
    assert not layer.inbound_nodes


# Unknown extents: layer, shape without the batch, words.
UNKNOWN = {
    "channels": (L.Conv2D, {"filters": 2, "kernel_size": 3}, [28, 28, None], ["channels", "axis 3", "input_shape"]),
    "channels first": (
        L.Conv2D,
        {"filters": 2, "kernel_size": 3, "data_format": "channels_first"},
        [None, 28, 28],
        ["axis 1", "[null,null,28,28]"],
    ),
    "transposed": (L.Conv2DTranspose, {"filters": 2, "kernel_size": 3}, [28, 28, None], ["axis 3", "input_shape"]),
    "features": (L.BatchNormalization, {}, [28, None], ["axis -1", "[null,28,null]", "input_shape"]),
    "normalized axis": (L.LayerNormalization, {}, [28, None], ["axis -1", "input_shape"]),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_extent_is_refused(case):
    cls, settings, shape, words = UNKNOWN[case]
    with pytest.raises(ShapeError) as caught:
        cls(**settings, name="mine").apply(L.input(shape=shape))
    assert all(word in str(caught.value) for word in ["mine", *words]), str(caught.value)


# Wrong arguments: factory, arguments, words.
ARGUMENTS = {
    "no filters": (L.conv2d, {"filters": 0, "kernel_size": 3}, ["filters", "positive integer", "0"]),
    "negative filters": (L.conv2d_transpose, {"filters": -1, "kernel_size": 3}, ["filters", "-1"]),
    "half a filter": (L.separable_conv2d, {"filters": 1.5, "kernel_size": 3}, ["filters", "1.5"]),
    "kernel of nothing": (L.conv2d, {"filters": 1, "kernel_size": 0}, ["kernel_size", "at least 1"]),
    "kernel of too many axes": (L.conv2d, {"filters": 1, "kernel_size": [3, 3, 3]}, ["kernel_size", "2 of them"]),
    "kernel of one axis of two": (L.conv2d, {"filters": 1, "kernel_size": [3]}, ["kernel_size", "2 of them"]),
    "stride of zero": (L.conv2d, {"filters": 1, "kernel_size": 3, "strides": [1, 0]}, ["strides", "[1, 0]"]),
    "half a stride": (L.conv1d, {"filters": 1, "kernel_size": 3, "strides": 0.5}, ["strides", "0.5"]),
    "dilation of zero": (L.conv2d, {"filters": 1, "kernel_size": 3, "dilation_rate": 0}, ["dilation_rate", "0"]),
    "strides with dilation": (
        L.conv2d,
        {"filters": 1, "kernel_size": 3, "strides": [2, 1], "dilation_rate": 2},
        ["strides [2, 1]", "dilation_rate [2, 2]", "Set one"],
    ),
    "depthwise strides with dilation": (
        L.depthwise_conv2d,
        {"kernel_size": 3, "strides": 2, "dilation_rate": 2},
        ["strides", "dilation_rate"],
    ),
    "transposed strides with dilation": (
        L.conv2d_transpose,
        {"filters": 1, "kernel_size": 3, "strides": 2, "dilation_rate": 2},
        ["strides", "dilation_rate"],
    ),
    "filters and groups": (L.conv2d, {"filters": 4, "kernel_size": 3, "groups": 3}, ["4 filters", "3 groups"]),
    "no groups": (L.conv2d, {"filters": 4, "kernel_size": 3, "groups": 0}, ["groups"]),
    "padding": (L.conv2d, {"filters": 1, "kernel_size": 3, "padding": "smae"}, ["padding", "valid", "'same'"]),
    "padding by a number": (L.conv2d, {"filters": 1, "kernel_size": 3, "padding": 1}, ["padding", "zero_padding2d"]),
    "no kernel size": (L.conv2d, {"filters": 1}, ["Conv2D", "missing", "kernel_size, strides=1"]),
    "causal in two axes": (L.conv2d, {"filters": 1, "kernel_size": 3, "padding": "causal"}, ["padding", "valid"]),
    "data format": (L.conv2d, {"filters": 1, "kernel_size": 3, "dataFormat": "NHCW"}, ["data_format", "channels_last"]),
    "output padding": (
        L.conv2d_transpose,
        {"filters": 1, "kernel_size": 3, "strides": 2, "output_padding": 2},
        ["output_padding [2, 2]", "strides [2, 2]"],
    ),
    "multiplier": (L.depthwise_conv2d, {"kernel_size": 3, "depth_multiplier": 0}, ["depth_multiplier"]),
    "kernel initializer of a separable": (
        L.separable_conv2d,
        {"filters": 1, "kernel_size": 3, "kernel_initializer": "ones"},
        ["kernel_initializer"],
    ),
    "what only the base class knows": (L.conv2d, {"filters": 1, "kernel_size": 3, "bias": 1}, ["bias", "use_bias"]),
    "pool of nothing": (L.max_pooling2d, {"pool_size": 0}, ["pool_size", "at least 1"]),
    "pool strides": (L.average_pooling1d, {"strides": 0}, ["strides", "at least 1"]),
    "pool padding": (L.max_pooling2d, {"padding": "causal"}, ["padding", "valid, same"]),
    "negative padding": (L.zero_padding2d, {"padding": -1}, ["padding", "-1", "negative"]),
    "padding of three axes": (L.zero_padding2d, {"padding": [1, 1, 1]}, ["padding", "2 numbers or pairs"]),
    "cropping": (L.cropping2d, {"cropping": [[1, 2, 3], [1, 1]]}, ["cropping", "pairs"]),
    "upsampling by zero": (L.up_sampling2d, {"size": 0}, ["size", "at least 1"]),
    "interpolation": (L.up_sampling2d, {"interpolation": "cubic"}, ["interpolation", "bilinear"]),
    "dropout rate": (L.spatial_dropout2d, {"rate": 2}, ["rate", "[0, 1]"]),
    "momentum": (L.batch_normalization, {"momentum": 1.5}, ["momentum", "1.5"]),
    "epsilon": (L.batch_normalization, {"epsilon": -1e-3}, ["epsilon", "negative"]),
    "two channel axes": (L.batch_normalization, {"axis": [1, 2]}, ["axis", "one axis"]),
    "axis between axes": (L.layer_normalization, {"axis": 1.5}, ["axis", "1.5"]),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_argument_is_refused(case):
    make, settings, words = ARGUMENTS[case]
    with pytest.raises((ArgumentError, UnknownArgumentError)) as caught:
        make(**settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_another_number_of_channels_is_refused():
    layer = L.conv2d(filters=2, kernel_size=3, name="mine")
    layer.apply(np.ones(IMAGE))
    with pytest.raises(ShapeError, match=r"mine.*\[2,6,5,3\].*4 at axis 3"):
        layer.apply(np.ones((2, 6, 5, 3)))


def test_nothing_is_refused():
    with pytest.raises(ShapeError, match=r"mine.*NoneType"):
        L.conv2d(filters=2, kernel_size=3, name="mine").apply(None)


MODEL_INPUTS = {
    "another size": ((3, 9, 10, 2), ["[3, 9, 10, 2]", "[batch,10,10,2]", "input_shape=[9, 10, 2]"]),
    "other channels": ((3, 10, 10, 3), ["[3, 10, 10, 3]", "input_shape=[10, 10, 3]"]),
    "one image": ((10, 10, 2), ["batch axis", "x[None]"]),
    "flat": ((3, 200), ["x.reshape(-1, 10, 10, 2)"]),
    "channels first": ((3, 2, 10, 10), ["np.moveaxis(x, 1, -1)"]),
}


@pytest.mark.parametrize("case", MODEL_INPUTS)
def test_images_that_do_not_fit_the_model_are_refused(case):
    """By all methods that take data; where pixels could be mixed up unnoticed the remedy does not."""
    shape, words = MODEL_INPUTS[case]
    x, y = np.zeros(shape, np.float32), np.zeros((3, 2), np.float32)
    model = sequential([L.conv2d(filters=2, kernel_size=3, input_shape=[10, 10, 2], name="mine"), L.flatten()])
    model.add(L.dense(units=2))
    model.compile(optimizer="sgd", loss="meanSquaredError")
    for call in (lambda: model.predict(x), lambda: model.fit(x, y), lambda: model.train_on_batch(x, y)):
        with pytest.raises(DataError) as caught:
            call()
        assert all(word in str(caught.value) for word in ["mine", *words]), str(caught.value)


def test_channels_last_for_a_model_with_channels_first_are_refused():
    model = sequential([L.max_pooling2d(data_format="channels_first", input_shape=[2, 10, 10])])
    with pytest.raises(DataError, match=r"np\.moveaxis\(x, -1, 1\)"):
        model.predict(np.zeros((3, 10, 10, 2)))


def test_axis_named_twice_is_refused():
    with pytest.raises(ArgumentError, match=r"mine.*twice"):
        L.layer_normalization(axis=[1, -3], name="mine").apply(np.ones(IMAGE))


def test_a_chain_that_shrinks_to_nothing_names_the_layer():
    model = sequential([L.conv2d(filters=2, kernel_size=3, input_shape=[6, 6, 1]), L.max_pooling2d()])
    with pytest.raises(ShapeError, match=r"last.*\[null,2,2,2\].*\[3, 3\].*same"):
        model.add(L.conv2d(filters=2, kernel_size=3, name="last"))
    assert len(model.layers) == 2
