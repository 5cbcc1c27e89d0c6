"""The op list of TF.js's Core API (INVENTORY 6.3) as data: every public name, and how the new ones are called."""

from __future__ import annotations

import numpy as np

import layerflow as lf
from tests.ops.cases import WIDE, A, Case, case


def f32(values):
    return np.array(values, np.float32)


def i32(values):
    return np.array(values, np.int32)


# Every name of INVENTORY 6.3 by group; * has a gradient (registered in TF.js, or composed of ops that have one).
NAMES = {
    "arithmetic": """add* addN* sub* mul* div* divNoNan* floorDiv pow* mod* neg* maximum* minimum* squaredDifference*
        abs* exp* expm1* log* log1p* sqrt* rsqrt* square* reciprocal* sign round ceil floor clipByValue* step isNaN
        isInf isFinite erf* cumsum* cumprod* movingAverage*""",
    "trigonometry": "sin* cos* tan* asin* acos* atan* atan2* sinh* cosh* tanh* asinh* acosh* atanh*",
    "activations": """relu* relu6* elu* selu* prelu* leakyRelu* sigmoid* softplus* softmax* logSoftmax* logSigmoid*""",
    "reductions": """sum* mean* prod* max* min* any all argMax argMin logSumExp* norm* euclideanNorm* moments* bincount
        denseBincount unsortedSegmentSum*""",
    "matrices": "matMul* dot* outerProduct* transpose* einsum* linalg.bandPart* linalg.gramSchmidt* linalg.qr",
    "shapes": """reshape* squeeze* expandDims* ensureShape* concat* concat1d* concat2d* concat3d* concat4d* stack*
        unstack* split* slice* slice1d* slice2d* slice3d* slice4d* stridedSlice* tile* pad* pad1d* pad2d* pad3d* pad4d*
        mirrorPad* reverse* reverse1d* reverse2d* reverse3d* reverse4d* depthToSpace* broadcastArgs gather* gatherND*
        oneHot cast* clone broadcastTo* spaceToBatchND* batchToSpaceND* booleanMaskAsync tensorScatterUpdate* scatterND*
        sparseToDense* unique setdiff1dAsync topk* where* whereAsync searchSorted lowerBound upperBound inTopKAsync
        meshgrid* raggedGather raggedRange raggedTensorToTensor""",
    "convolution": """conv1d* conv2d* depthwiseConv2d* separableConv2d* conv2dTranspose* conv3d* conv3dTranspose*
        avgPool* maxPool* pool* avgPool3d* maxPool3d* maxPoolWithArgmax dilation2d* localResponseNormalization*""",
    "normalization": "batchNorm* batchNorm2d* batchNorm3d* batchNorm4d*",
    "recurrent": "basicLSTMCell* multiRNNCell*",
    "logic": """equal notEqual less lessEqual greater greaterEqual logicalAnd logicalOr logicalXor logicalNot
        bitwiseAnd""",
    "image": """image.resizeBilinear* image.resizeNearestNeighbor* cropAndResize image.flipLeftRight* rotateWithOffset
        nonMaxSuppression image.grayscaleToRGB* image.rgbToGrayscale* threshold transform""",
    "other": """confusionMatrix complexAbs fft ifft rfft irfft signal.hannWindow signal.hammingWindow
        signal.frame* stft sparse string""",
    "fused": "fused.conv2d* fused.depthwiseConv2d* fused.matMul*",
    "creation": """tensor scalar tensor1d tensor2d tensor3d tensor4d tensor5d tensor6d zeros ones zerosLike onesLike
        fill eye linspace range complex real imag buffer diag* truncatedNormal randomNormal randomStandardNormal
        randomUniform randomUniformInt randomGamma multinomial rand dropout* variable print tidy dispose keep memory
        profile time disposeVariables setBackend ready getBackend nextFrame""",
    "gradients": "grad grads valueAndGrad valueAndGrads variableGrads customGrad",
}
METHODS = """
    abs add acos acosh all any argMax argMin asScalar asType as1D as2D as3D as4D as5D asin asinh atan atan2 atanh
    avgPool batchToSpaceND batchNorm broadcastTo cast ceil clipByValue concat conv1d conv2dTranspose conv2d cos cosh
    cumprod cumsum depthToSpace depthwiseConv2d dilation2d divNoNan div dot elu equal erf euclideanNorm exp
    expandDims expm1 flatten floor floorDiv gather greaterEqual greater isFinite isInf isNaN leakyRelu lessEqual
    less localResponseNormalization logSigmoid logSoftmax logSumExp log log1p logicalAnd logicalNot logicalOr
    logicalXor matMul maxPool max maximum mean min minimum mirrorPad mod mul neg norm notEqual oneHot pad pool pow
    prelu prod reciprocal relu relu6 reshapeAs reshape resizeBilinear resizeNearestNeighbor reverse round rsqrt selu
    separableConv2d sigmoid sign sin sinh slice softmax softplus spaceToBatchND split sqrt square squaredDifference
    squeeze stack step stridedSlice sub sum tan tanh tile toBool toFloat toInt topk transpose unique
    unsortedSegmentSum unstack where
""".split()
# Names whose compiled code and gradient are tested elsewhere: as primitives (tests/ops/cases.py), or as said.
ELSEWHERE = set(
    """add sub mul div pow mod neg maximum minimum abs exp expm1 log log1p sqrt rsqrt square reciprocal sign round ceil
    floor is_nan is_inf is_finite erf sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh relu sigmoid
    softplus sum prod max min mat_mul transpose reshape slice pad cast broadcast_to gather conv1d conv2d
    depthwise_conv2d separable_conv2d conv2d_transpose conv3d conv3d_transpose avg_pool max_pool pool avg_pool3d
    max_pool3d equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor logical_not
    floor_div concat where image.resize_bilinear bitwise_and""".split()
)
R3, R4 = (2, 3, 4), (2, 4, 6, 3)
IDS = i32([2, 0, 5, 2])
STEPS = f32([[-1, -0.5, 0, 0, 0.5, 1, 1]] * 3)
AT = i32([[0, 1], [2, 3], [0, 0]])


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(9).uniform(0.5, 1.5, shape).astype(np.float32)


CASES: list[Case] = [
    case("div_no_nan", lambda a, b: lf.div_no_nan(a, lf.where(b > 0.7, b, 0.0)), A, A, low=0.3),
    case("squared_difference", lf.squared_difference, A, (5,)),
    case("clip_by_value", lambda a: lf.clip_by_value(a, -0.5, 0.8), A),
    case("step", lambda a: lf.step(a, 0.25), A, gradient=False),
    case("cumsum", lambda a: lf.cumsum(a, 1), WIDE),
    case("cumsum", lambda a: lf.cumsum(a, 0, exclusive=True, reverse=True), A, note="exclusive, from the end"),
    case("cumprod", lambda a: lf.cumprod(a, 1), A),
    case("cumprod", lambda a: lf.cumprod(lf.relu(a), 0, exclusive=True), (6, 2), note="with zeros"),
    case("prod", lambda a: lf.prod(lf.relu(a), 1), (9, 3), note="with zeros"),
    case("moving_average", lambda v, x: lf.moving_average(v, x, 0.9, 3), A, A),
    case("add_n", lambda a, b, c: lf.add_n([a, b, c]), A, A, A),
    case("relu6", lambda a: lf.relu6(a * 6), A),
    case("elu", lambda a: lf.elu(a * 3), A),
    case("selu", lf.selu, A),
    case("prelu", lf.prelu, A, (5,)),
    case("leaky_relu", lambda a: lf.leaky_relu(a, 0.1), A),
    case("softmax", lf.softmax, A),
    case("log_softmax", lf.log_softmax, A),
    case("log_sigmoid", lambda a: lf.log_sigmoid(a * 4), A),
    case("mean", lambda a: lf.mean(a, (0, 2)), R3),
    case("any", lambda a: lf.any(a > 1.2, 1), A, gradient=False),
    case("all", lambda a: lf.all(a > -1.2, 1), A, gradient=False),
    case("arg_max", lambda a: lf.arg_max(a, 1), A, gradient=False),
    case("arg_min", lambda a: lf.arg_min(a, 0), A, gradient=False),
    case("log_sum_exp", lambda a: lf.log_sum_exp(a, 1), A),
    case("norm", lambda a: lf.norm(a, 1, 0), A, note="1"),
    case("norm", lambda a: lf.norm(a, np.inf, 1), A, note="infinity"),
    case("norm", lambda a: lf.norm(a, 3, 1), A, low=0.2, note="3"),
    case("norm", lambda a: lf.norm(a, "fro", (0, 2)), R3, note="fro"),
    case("norm", lambda a: lf.norm(a, 1, (0, 1)), A, note="matrix 1"),
    case("euclidean_norm", lf.euclidean_norm, A),
    case("moments", lambda a: lf.concat(list(lf.moments(a, 0)), 0), A),
    case("bincount", lambda a: lf.bincount(lf.cast(a * 4, np.int32), None, 5), (9,), low=0, gradient=False),
    case("bincount", lambda a: lf.bincount(IDS, a, 4), (4,), note="weights"),
    case("dense_bincount", lambda a: lf.dense_bincount(lf.cast(a * 4, np.int32), None, 5), A, low=0, gradient=False),
    case("dense_bincount", lambda a: lf.dense_bincount(i32([[1, 1], [3, 0]]), a, 5), (2, 2), note="weights"),
    case("unsorted_segment_sum", lambda a: lf.unsorted_segment_sum(a, IDS, 4), (4, 3)),
    case("dot", lf.dot, (5,), (5,)),
    case("outer_product", lf.outer_product, (3,), (4,)),
    case("einsum", lambda a, b: lf.einsum("bij,bjk->bki", a, b), R3, (2, 4, 5)),
    case("einsum", lambda a, b: lf.einsum("ij,kj->", a, b), A, (2, 5), note="all summed"),
    case("linalg.band_part", lambda a: lf.linalg.band_part(a, 1, -1), R3),
    case("linalg.gram_schmidt", lf.linalg.gram_schmidt, (3, 5), low=0.2),
    case("squeeze", lambda a: lf.squeeze(a, 1) * 2, (3, 1, 2)),
    case("expand_dims", lambda a: lf.expand_dims(a, 1) * 2, A),
    case("ensure_shape", lambda a: lf.ensure_shape(a, [None, 5]) * 2, A),
    case("concat1d", lambda a, b: lf.concat1d([a, b]), (2,), (3,)),
    case("concat2d", lambda a, b: lf.concat2d([a, b], 1), (2, 2), (2, 3)),
    case("concat3d", lambda a, b: lf.concat3d([a, b], 2), R3, R3),
    case("concat4d", lambda a, b: lf.concat4d([a, b], 3), R4, R4),
    case("stack", lambda a, b: lf.stack([a, b], 1), A, A),
    case("unstack", lambda a: lf.unstack(a, 1)[3] * lf.unstack(a, 1)[0], A),
    case("split", lambda a: lf.split(a, [2, 3], 1)[1] * 2, A),
    case("slice1d", lambda a: lf.slice1d(a, 1, 3) * 2, (5,)),
    case("slice2d", lambda a: lf.slice2d(a, [1, 0], [2, 3]) * 2, A),
    case("slice3d", lambda a: lf.slice3d(a, [1, 0, 2], [1, 3, 2]) * 2, R3),
    case("slice4d", lambda a: lf.slice4d(a, [1, 0, 2, 0], [1, 3, 2, 1]) * 2, R4),
    case("strided_slice", lambda a: lf.strided_slice(a, [0, 1], [3, 36], [2, 5]) * 2, WIDE),
    case("strided_slice", lambda a: lf.strided_slice(a, [2, 30], [-9, 2], [-2, -7], 0, 1) * 2, WIDE, note="backward"),
    case("tile", lambda a: lf.tile(a, (2, 3)), A),
    case("pad1d", lambda a: lf.pad1d(a, (1, 2), 0.5), (3,)),
    case("pad2d", lambda a: lf.pad2d(a, [(1, 2), (0, 1)]), A),
    case("pad3d", lambda a: lf.pad3d(a, [(1, 2), (0, 1), (0, 0)]), R3),
    case("pad4d", lambda a: lf.pad4d(a, [(1, 0), (0, 1), (0, 0), (2, 2)]), R4),
    case("mirror_pad", lambda a: lf.mirror_pad(a, [(1, 2), (0, 3)], "reflect"), A),
    case("mirror_pad", lambda a: lf.mirror_pad(a, [(3, 1), (2, 0)], "symmetric"), A, note="symmetric"),
    case("reverse", lambda a: lf.reverse(a, (0, 2)) * 2, R3),
    case("reverse1d", lambda a: lf.reverse1d(a) * 2, (5,)),
    case("reverse2d", lambda a: lf.reverse2d(a, 1) * 2, A),
    case("reverse3d", lambda a: lf.reverse3d(a, [0, 1]) * 2, R3),
    case("reverse4d", lambda a: lf.reverse4d(a, 3) * 2, R4),
    case("depth_to_space", lambda a: lf.depth_to_space(a, 2) * 2, (2, 3, 2, 8)),
    case("gather_nd", lambda a: lf.gather_nd(a, AT), (3, 4, 2)),
    case("scatter_nd", lambda a: lf.scatter_nd(AT, a, [3, 4, 2]), (3, 2)),
    case("tensor_scatter_update", lambda a, b: lf.tensor_scatter_update(a, AT, b), (3, 4, 2), (3, 2)),
    case("sparse_to_dense", lambda a: lf.sparse_to_dense(AT, a, [3, 4], 0.5), (3,)),
    case("one_hot", lambda a: lf.one_hot(lf.cast(a * 4, np.int32), 5, 2.0, -1.0), A, low=0, gradient=False),
    case("space_to_batch_nd", lambda a: lf.space_to_batch_nd(a, [2, 3], [(0, 0), (1, 2)]), (2, 4, 6, 2)),
    case("batch_to_space_nd", lambda a: lf.batch_to_space_nd(a, [2, 3], [(0, 1), (2, 1)]), (12, 2, 3, 2)),
    case("topk", lambda a: lf.topk(a, 3)[0], WIDE),
    case("topk", lambda a: lf.topk(lf.round(a), 4)[1], WIDE, gradient=False, note="indices, with ties"),
    case("sort", lambda a: lf.sort(a, 0) * weights(3, 1), A),
    case("argsort", lambda a: lf.argsort(lf.round(a * 2), descending=True), WIDE, gradient=False),
    case("search_sorted", lambda a: lf.search_sorted(STEPS, lf.round(a * 2) / 2), A, gradient=False),
    case("lower_bound", lambda a: lf.lower_bound([-1.0, 0.0, 0.0, 1.0], lf.round(a)), A, gradient=False),
    case("upper_bound", lambda a: lf.upper_bound([-1.0, 0.0, 0.0, 1.0], lf.round(a)), A, gradient=False),
    case("in_top_k", lambda a: lf.in_top_k(a, i32([0, 4, 2]), 2), A, gradient=False),
    case("meshgrid", lambda a, b: lf.add_n(lf.meshgrid(a, b)), (3,), (4,)),
    case("diag", lf.diag, (4,)),
    case("dilation2d", lambda a, k: lf.dilation2d(a, k, 1, "same"), R4, (2, 3, 3)),
    case("local_response_normalization", lambda a: lf.local_response_normalization(a, 2, 1.5, 0.3, 0.75), (2, 2, 2, 7)),
    case("batch_norm", lambda x, m, v, o, s: lf.batch_norm(x, m, v, o, s), A, (5,), (5,), (5,), (5,), low=0.3),
    case("batch_norm2d", lambda x, m, v: lf.batch_norm2d(x, m, v), A, (5,), (5,), low=0.3),
    case("batch_norm3d", lambda x, m, v: lf.batch_norm3d(x, m, v), R3, (4,), (4,), low=0.3),
    case("batch_norm4d", lambda x, m, v: lf.batch_norm4d(x, m, v), R4, (3,), (3,), low=0.3),
    case(
        "basic_lstm_cell",
        lambda k, b, x, c, h: lf.concat(list(lf.basic_lstm_cell(1.0, k, b, x, c, h)), 1),
        (5, 12), (12,), (2, 2), (2, 3), (2, 3),
    ),
    case(
        "multi_rnn_cell",
        lambda x, c, h: lf.multi_rnn_cell([lambda d, u, v: (u + d, v * d)] * 2, x, [c, c], [h, h * c])[1][1],
        A, A, A,
    ),
    case("image.resize_nearest_neighbor", lambda a: lf.image.resize_nearest_neighbor(a, (6, 4)), (1, 3, 4, 2)),
    case("image.flip_left_right", lf.image.flip_left_right, R4),
    case("image.grayscale_to_rgb", lf.image.grayscale_to_rgb, (2, 2, 2, 1)),
    case("image.rgb_to_grayscale", lf.image.rgb_to_grayscale, R4),
    case("confusion_matrix", lambda a: lf.confusion_matrix(IDS, lf.cast(a, np.int32), 6), (4,), low=0, high=6,
         gradient=False),
    case("signal.frame", lambda a: lf.signal.frame(a, 4, 2, True), (11,)),
    case("fused.mat_mul", lambda a, b, c: lf.fused.mat_mul(a, b, bias=c, activation="elu"), A, (5, 4), (4,)),
    case("fused.conv2d", lambda a, k, b: lf.fused.conv2d(a, k, bias=b, activation="elu"), R4, (2, 2, 3, 4), (4,)),
    case("fused.depthwise_conv2d", lambda a, k: lf.fused.depthwise_conv2d(a, k, activation="elu"), R4, (2, 2, 3, 1)),
]  # fmt: skip
