"""Layers: classes (`Dense`) and the functions that make them (`dense`)."""

from __future__ import annotations

from layerflow.layers.advanced_activations import (
    ELU,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
    ThresholdedReLU,
    elu,
    leaky_relu,
    prelu,
    re_lu,
    relu,
    softmax,
    thresholded_relu,
)
from layerflow.layers.attention import (
    AdditiveAttention,
    Attention,
    additive_attention,
    attention,
)
from layerflow.layers.base import Layer
from layerflow.layers.cells import (
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    gru_cell,
    lstm_cell,
    simple_rnn_cell,
)
from layerflow.layers.convolutional import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
)
from layerflow.layers.convolutional_recurrent import (
    ConvLSTM2D,
    ConvLSTM2DCell,
    conv_lstm2d,
    conv_lstm2d_cell,
)
from layerflow.layers.core import (
    Activation,
    Dense,
    Dropout,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    activation,
    dense,
    dropout,
    flatten,
    permute,
    repeat_vector,
    reshape,
    spatial_dropout1d,
    spatial_dropout2d,
    spatial_dropout3d,
)
from layerflow.layers.depthwise import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
    depthwise_conv1d,
    depthwise_conv2d,
    separable_conv1d,
    separable_conv2d,
)
from layerflow.layers.einsum_dense import (
    EinsumDense,
    einsum_dense,
)
from layerflow.layers.embedding import (
    Embedding,
    Masking,
    PositionEmbedding,
    embedding,
    masking,
    position_embedding,
)
from layerflow.layers.features import (
    CategoryEncoding,
    Discretization,
    Normalization,
    category_encoding,
    discretization,
    normalization,
)
from layerflow.layers.function import (
    Function,
    function,
)
from layerflow.layers.input_layer import InputLayer, input, input_layer
from layerflow.layers.merge import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from layerflow.layers.multi_head_attention import (
    GroupQueryAttention,
    MultiHeadAttention,
    group_query_attention,
    multi_head_attention,
)
from layerflow.layers.noise import (
    AlphaDropout,
    GaussianDropout,
    GaussianNoise,
    alpha_dropout,
    gaussian_dropout,
    gaussian_noise,
)
from layerflow.layers.normalizing import (
    BatchNormalization,
    LayerNormalization,
    batch_normalization,
    layer_normalization,
)
from layerflow.layers.padding import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
    cropping1d,
    cropping2d,
    cropping3d,
    up_sampling1d,
    up_sampling2d,
    up_sampling3d,
    zero_padding1d,
    zero_padding2d,
    zero_padding3d,
)
from layerflow.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
    average_pooling1d,
    average_pooling2d,
    average_pooling3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    avg_pooling1d,
    avg_pooling2d,
    avg_pooling3d,
    global_average_pooling1d,
    global_average_pooling2d,
    global_average_pooling3d,
    global_avg_pool1d,
    global_avg_pool2d,
    global_avg_pool3d,
    global_max_pool1d,
    global_max_pool2d,
    global_max_pool3d,
    global_max_pooling1d,
    global_max_pooling2d,
    global_max_pooling3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_pooling1d,
    max_pooling2d,
    max_pooling3d,
)
from layerflow.layers.preprocessing import (
    CenterCrop,
    RandomWidth,
    Rescaling,
    Resizing,
    center_crop,
    random_width,
    rescaling,
    resizing,
)
from layerflow.layers.reading import LAYERS, deserialize
from layerflow.layers.recurrent import (
    GRU,
    LSTM,
    SimpleRNN,
    gru,
    lstm,
    simple_rnn,
)
from layerflow.layers.rnn import (
    RNN,
    rnn,
)
from layerflow.layers.sample_normalization import (
    GroupNormalization,
    RMSNormalization,
    UnitNormalization,
    group_normalization,
    rms_normalization,
    unit_normalization,
)
from layerflow.layers.stacked_cells import StackedRNNCells, stacked_rnn_cells
from layerflow.layers.topology import InputSpec, reset_names
from layerflow.layers.wrappers import (
    Bidirectional,
    TimeDistributed,
    bidirectional,
    time_distributed,
)

# Every layer and factory above; not the modules they come from.
__all__ = [
    name for name, value in list(vars().items()) if (callable(value) or name == "LAYERS") and not name.startswith("_")
]

# Other names of layers in files.
_ALIASES = {
    **{f"MaxPooling{n}D": [f"MaxPool{n}D"] for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": [f"AvgPool{n}D"] for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": [f"GlobalMaxPool{n}D"] for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": [f"GlobalAvgPool{n}D"] for n in (1, 2, 3)},
    **{f"Conv{n}D": [f"Convolution{n}D"] for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": [f"Convolution{n}DTranspose"] for n in (1, 2, 3)},
    **{f"SeparableConv{n}D": [f"SeparableConvolution{n}D"] for n in (1, 2)},
}

for _layer in list(globals().values()):
    if isinstance(_layer, type) and issubclass(_layer, Layer) and _layer is not Layer:
        LAYERS.add(_layer, _layer.__name__, *_ALIASES.get(_layer.__name__, []))
