"""The operations of TensorFlow that a SavedModel may hold: those that compute values from values.

None of them opens a file, keeps a state, runs Python or takes a string.
"""

import re

from service.errors import CommandError

_COMPUTING = """
    Abs Add AddN AddV2 AvgPool BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Cast
    Ceil ClipByValue Concat ConcatV2 Const Conv2D DepthToSpace DepthwiseConv2dNative DivNoNan Einsum
    Elu EnsureShape Equal Erf Exp ExpandDims Expm1 Floor FloorDiv FloorMod FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 GatherV2 Greater GreaterEqual Identity IdentityN LRN LeakyRelu
    Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool MaxPoolV2
    Maximum Mean Min Minimum MirrorPad Mul Neg NotEqual OnesLike Pack Pad PadV2 Pow PreventGradient
    Prod Rank RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ReverseV2 Round Rsqrt Select SelectV2 Selu Shape Sigmoid Sign Size Slice
    Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference
    Squeeze StopGradient StridedSlice Sub Sum Tanh Transpose Unpack ZerosLike
"""
# Augmentation may leave these in a function without use. They are taken out, and never run.
_UNUSED = """
    AdjustContrastv2 AdjustHue AdjustSaturation Assert AssignAddVariableOp AssignSubVariableOp
    AssignVariableOp Bitcast BitwiseAnd BitwiseOr BitwiseXor Cos Fill HSVToRGB
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 NoOp RGBToHSV RandomStandardNormal
    RandomUniform RandomUniformInt Range RightShift RngReadAndSkip Sin StatefulUniformFullInt
    StatefulUniformInt StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormalV2 StatelessRandomUniformFullInt
    StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessRandomUniformV2 Tan Tile VarIsInitializedOp
"""
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
ANSWERING = CALLS | {"ReadVariableOp"} | set(_COMPUTING.split())
STARTING = ANSWERING | {"Placeholder", "VarHandleOp"}  # In the graph, which calls the functions.
UNUSED = frozenset(_UNUSED.split())
RESTORING = frozenset({"AssignVariableOp", "Const", "Identity", "NoOp", "RestoreV2"})

_EXPORT = "export a model that takes pixels and gives scores"
_SAVE = "save it as NAME.keras and import that"
_REASONS = (
    ("PyFunc", "calls a Python function, which could run any code", _EXPORT),
    ("File|Save|Restore|Checkpoint|Dataset|Reader|Print", "reads or writes files", _EXPORT),
    ("Decode|String|Parse|Example|Table", "takes files or strings instead of pixels", _EXPORT),
    ("If$|Case$|While$|Switch|Merge", "computes one thing or another", _SAVE),
    ("XlaCallModule", "was exported from another framework than TensorFlow", _SAVE),
    ("Random|Rng|StatelessR|Stateful", "answers at random, as in training", _SAVE),
    ("", "holds what may do more than compute", _SAVE),
)


def refusal(operation: str) -> CommandError:
    """What to say of a SavedModel with this operation."""
    reason, step = next(rest for words, *rest in _REASONS if re.search(words, operation))
    return CommandError(f"The model {reason}: its signature holds {operation[:80]!r}; {step}.")
