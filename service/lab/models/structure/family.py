"""Tells by its structure which backbone of keras.applications a model stands on.

That tells its preprocessing. Names, channels and the number of blocks do not count: people change them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

SWISH = {"swish", "silu"}
FEWEST_VGG_BLOCKS = 3
FEWEST_BRANCHES = 3


@dataclass(frozen=True)
class Step:
    """An operation of a backbone. `inputs` are places of earlier steps; pictures have none.

    `kind` is conv, depthwise, separable, norm (over the batch), layer_norm, add, concatenate, multiply,
    max_pool, the name of an activation (relu6 apart from relu), or any other word. Padding, dropout and
    what else only passes on is no step.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    kernel: tuple[int, int] | None = None
    strides: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Family:
    """A module of keras.applications. `preprocessing` names what its preprocess_input does."""

    name: str
    preprocessing: str


class Backbone:
    """The steps of a backbone, each after its inputs, without preprocessing in front."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps

    @cached_property
    def kinds(self) -> set[str]:
        return {step.kind for step in self.steps}

    @cached_property
    def followers(self) -> list[set[str]]:
        """For each step the kinds of those that take what it gives."""
        followers: list[set[str]] = [set() for _ in self.steps]
        for step in self.steps:
            for at in step.inputs:
                followers[at].add(step.kind)
        return followers

    @cached_property
    def has_resnet_stem(self) -> bool:
        stem = next(self.of("conv"), Step("none"))
        return (stem.kernel, stem.strides) == ((7, 7), (2, 2))

    @cached_property
    def after_stem(self) -> set[str]:
        return next(iter(self.after("conv")), set())

    def of(self, kind: str) -> Iterator[Step]:
        return (step for step in self.steps if step.kind == kind)

    def after(self, kind: str) -> list[set[str]]:
        """The followers of each step of a kind."""
        pairs = zip(self.steps, self.followers, strict=True)
        return [followers for step, followers in pairs if step.kind == kind]

    def until_last(self, kind: str) -> "Backbone":
        """The steps without what comes after the last of a kind, such as layers that people add."""
        places = [at for at, step in enumerate(self.steps) if step.kind == kind]
        return Backbone(self.steps[: places[-1] + 1] if places else self.steps)


def family_of(steps: Sequence[Step]) -> Family | None:
    """The family whose structure a backbone has; None for another one."""
    backbone = Backbone(steps)
    return next((family for family, is_of in FAMILIES if is_of(backbone)), None)


def _is_resnet(backbone: Backbone) -> bool:
    """Blocks end in an addition and then a ReLU; a 1x1 convolution, and no other, makes maps smaller."""
    shrinking = [step for step in backbone.until_last("add").of("conv") if step.strides != (1, 1)]
    return (
        _is_residual(backbone)
        and backbone.after_stem == {"norm"}
        and all(followers <= {"relu"} for followers in backbone.after("add"))
        and all(step.kernel == (1, 1) for step in shrinking[1:])  # The first is the stem.
    )


def _is_resnet_v2(backbone: Backbone) -> bool:
    """Blocks begin with batch normalization and ReLU; their sums are added as they are."""
    return (
        _is_residual(backbone)
        and "norm" not in backbone.after_stem
        and all("norm" in followers for followers in backbone.after("add") if followers)
    )


def _is_residual(backbone: Backbone) -> bool:
    kinds = backbone.until_last("add").kinds
    return backbone.has_resnet_stem and "add" in kinds <= {"conv", "norm", "relu", "add", "max_pool"}


def _is_densenet(backbone: Backbone) -> bool:
    """Each step of a block is concatenated to all before it, and then normalized."""
    trunk = backbone.until_last("concatenate")
    return (
        backbone.has_resnet_stem
        and "concatenate"
        in trunk.kinds
        <= {"conv", "norm", "relu", "concatenate", "max_pool", "average_pool"}
        and all("norm" in followers for followers in backbone.after("concatenate") if followers)
    )


def _is_vgg(*wanted: int) -> Callable[[Backbone], bool]:
    """So many 3x3 convolutions with a ReLU before each pooling; nothing is normalized."""

    def is_of(backbone: Backbone) -> bool:
        shapes = {(step.kernel, step.strides) for step in backbone.of("conv")}
        letters = "".join(step.kind[0] for step in backbone.steps)
        blocks = [block.count("c") for block in letters.split("m") if block]
        compared = list(zip(blocks, wanted, strict=False))
        return (
            backbone.kinds <= {"conv", "relu", "max_pool"}
            and shapes == {((3, 3), (1, 1))}
            and len(compared) >= FEWEST_VGG_BLOCKS
            and all(own == other for own, other in compared)
        )

    return is_of


def _holds(*kinds: str, without: set[str]) -> Callable[[Backbone], bool]:
    return lambda backbone: set(kinds) <= backbone.kinds and not backbone.kinds & without


def _is_inception(backbone: Backbone) -> bool:
    """Three branches or more are concatenated, and some convolve along one side only."""
    sides = [step.kernel.count(1) for step in backbone.of("conv") if step.kernel]
    branches = [len(step.inputs) for step in backbone.of("concatenate")]
    return (
        1 in sides
        and max(branches, default=0) >= FEWEST_BRANCHES
        and not backbone.kinds & {"depthwise", "separable"}
    )


def _is_efficientnet(backbone: Backbone) -> bool:
    return {"depthwise", "multiply"} <= backbone.kinds and bool(backbone.kinds & SWISH)


# Where the preprocessing is layers of the model, preprocess_input does nothing.
FAMILIES: Sequence[tuple[Family, Callable[[Backbone], bool]]] = (
    (Family("ResNet", "caffe"), _is_resnet),
    (Family("ResNetV2", "tf"), _is_resnet_v2),
    (Family("VGG16", "caffe"), _is_vgg(2, 2, 3, 3, 3)),
    (Family("VGG19", "caffe"), _is_vgg(2, 2, 4, 4, 4)),
    (Family("DenseNet", "torch"), _is_densenet),
    (
        Family("MobileNet", "tf"),
        _holds("depthwise", "relu6", without={"multiply", "concatenate", "add"}),
    ),
    (
        Family("MobileNetV2", "tf"),
        _holds("depthwise", "relu6", "add", without={"multiply", "concatenate"}),
    ),
    (Family("Inception", "tf"), _is_inception),
    (Family("Xception", "tf"), _holds("separable", "add", without={"multiply", "concatenate"})),
    (Family("NASNet", "tf"), _holds("separable", "add", "concatenate", without={"multiply"})),
    (Family("EfficientNet", "none"), _is_efficientnet),
    (Family("MobileNetV3", "none"), _holds("depthwise", "multiply", "relu", without=SWISH)),
    (Family("ConvNeXt", "none"), _holds("depthwise", "layer_norm", "gelu", "add", without={"norm"})),
)
