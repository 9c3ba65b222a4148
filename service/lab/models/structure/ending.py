"""What a model ends in, and how that becomes one probability for each class."""

from typing import Any

import keras

from service.errors import CommandError
from service.store.card import Output

REGRESSIONS = {
    "cosinesimilarity",
    "huber",
    "huberloss",
    "logcosh",
    "mae",
    "mape",
    "meanabsoluteerror",
    "meanabsolutepercentageerror",
    "meansquarederror",
    "meansquaredlogarithmicerror",
    "mse",
    "msle",
    "poisson",
}
MULTI_LABEL = (
    "one class per image is needed: end it in a softmax, "
    "or save a model with one sigmoid for each label."
)


def output_of(
    activation: str, units: int, loss: str | None = None, is_from_logits: bool = False
) -> Output:
    """Describes the ending of a model by its last activation and what it was trained with.

    `loss` is the name in its compile configuration. Raises CommandError for what is no classifier of one
    class per picture.
    """
    loss_name = (loss or "").replace("_", "").lower()
    is_binary = "binary" in loss_name
    match activation:
        case "linear" if loss_name in REGRESSIONS:
            raise CommandError(
                f"The model is a regression: its loss is {loss} and it ends in no softmax or sigmoid; "
                "only classifiers are served: train it with classes, and import that."
            )
        case "sigmoid" if units == 1:
            return Output(activation="sigmoid", to_probabilities="complement")
        case "linear" if units == 1 and is_binary and is_from_logits:
            return Output(activation="linear", to_probabilities="sigmoid")
        case "linear" if units == 1:
            raise CommandError(
                "The model ends in one linear unit, and its compiled loss does not say from_logits; if "
                "it is a logit, put Activation('sigmoid') behind it, and save that."
            )
        case _ if units == 1:
            raise CommandError(
                f"The model ends in one {activation[:40]} unit; one unit must be a sigmoid: train it "
                "so, and save that."
            )
        case "sigmoid":
            raise CommandError(f"The model is multi-label (several sigmoids); {MULTI_LABEL}")
        case "linear" if is_binary:
            raise CommandError(f"The model is multi-label (its loss is {loss}); {MULTI_LABEL}")
        case "softmax":
            return Output(activation="softmax", to_probabilities="identity")
        case "linear":
            return Output(activation="linear", to_probabilities="softmax")
    raise CommandError(
        f"The model ends in {activation[:40]!r}; softmax, logits or one sigmoid are needed: end it in "
        "one of these, and save that."
    )


def probabilities(result: Any, output: Output) -> Any:
    """A model's output (n, units) as float32 probabilities (n, classes)."""
    result = keras.ops.cast(result, "float32")
    match output.to_probabilities:
        case "identity":
            return result
        case "softmax":
            return keras.ops.softmax(result)
        case "sigmoid":
            result = keras.ops.sigmoid(result)
    return keras.ops.concatenate([1 - result, result], axis=-1)
