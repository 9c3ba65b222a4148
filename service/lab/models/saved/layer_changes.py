"""What changed in the layers of Keras since 2.3: names, settings, what they compute. No Keras here."""

from service.lab.models.saved import Json, Saved, Unloadable

Version = tuple[int, ...]  # of Keras, such as (2, 15) or (3, 3)
Allowed = tuple[Json, ...] | None

KERAS_3 = (3,)
RENAMED = {
    **dict.fromkeys(
        ("BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"), "BatchNormalization"
    ),
    # They change pictures in training only, and Keras 3 does not have them.
    **dict.fromkeys(("RandomHeight", "RandomWidth"), "Identity"),
}
REMOVED = {"LocallyConnected1D", "LocallyConnected2D", "ThresholdedReLU"}

KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
RANDOM = ("rng_type", "auto_vectorize", "force_generator")
# Settings that today's layers do not know, with the values at which they change nothing; None is any
# value, because they matter in training only. At other values they are left for Keras to refuse.
DROPPED: dict[str, dict[str, Allowed]] = {
    **{f"DepthwiseConv{n}D": {"groups": (1,), **dict.fromkeys(KERNEL)} for n in (1, 2)},
    **{f"SeparableConv{n}D": {"groups": (1,), **dict.fromkeys(KERNEL)} for n in (1, 2)},
    **{f"Conv{n}DTranspose": {"groups": (1,)} for n in (1, 2, 3)},
    **{f"SpatialDropout{n}D": dict.fromkeys(("trainable", "noise_shape")) for n in (1, 2, 3)},
    **{
        f"Random{what}": dict.fromkeys((*RANDOM, "value_range"))
        for what in ("Flip", "Rotation", "Translation", "Zoom")
    },
    **{f"Random{what}": dict.fromkeys(RANDOM) for what in ("Brightness", "Contrast")},
    "Embedding": dict.fromkeys(("batch_input_shape", "input_length")),
    "Identity": dict.fromkeys((*RANDOM, "factor", "interpolation", "seed")),
    "InputLayer": {"ragged": (False,), "type_spec": (None,)},
    "MultiHeadAttention": dict.fromkeys(("query_shape", "key_shape", "value_shape")),
    "Resizing": dict.fromkeys((*RANDOM, "seed")),
}
ALONE = {"BatchNormalization": ("axis",)}  # Lists of one element that are now that element.
TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")


def today(name: str, config: Saved, version: Version) -> tuple[str, Saved]:
    """The class and the settings of today for what a layer of a version of Keras did.

    Raises Unloadable where none computes the same.
    """
    if version < KERAS_3 and name in REMOVED:
        raise Unloadable(
            f"it holds {name}, a layer that Keras 3 has no longer; put another in its place and save it "
            "again."
        )
    if version < KERAS_3 and "hard_sigmoid" in _activations(config):
        raise _computed_otherwise("hard_sigmoid")
    if name == "UpSampling2D" and config.get("interpolation") == "bilinear" and version < (2, 4):
        raise _computed_otherwise("UpSampling2D with bilinear interpolation")
    if name == "RandomCrop" and (2, 11) <= version < (3, 6):
        # Outside of training it resized pictures; today it does nothing.
        name, config = "Resizing", config | {"crop_to_aspect_ratio": True}
    if name == "RandomCrop" and version < (3, 8):
        raise _computed_otherwise("RandomCrop")
    name = RENAMED.get(name, name)
    return name, _settings(name, config, version)


def name_today(name: str) -> str:
    """The name of a layer, without the slashes that Keras 3 does not allow."""
    return name.replace("/", "_")


def alone(value: Json) -> Json:
    """The element of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _settings(name: str, config: Saved, version: Version) -> Saved:
    dropped = DROPPED.get(name, {})
    kept = {key: _number(value) for key, value in config.items() if not _is_dropped(dropped, key, value)}
    for key in ALONE.get(name, ()):
        if key in kept:
            kept[key] = alone(kept[key])
    if version < KERAS_3:
        kept = {key: value for key, value in kept.items() if not key.endswith(TRAINING_ONLY)}
    if "batch_input_shape" in kept:  # A model begins with an InputLayer instead.
        shape = kept.pop("batch_input_shape")
        kept |= {"batch_shape": shape} if name == "InputLayer" else {}
    return kept


def _is_dropped(dropped: dict[str, Allowed], key: str, value: Json) -> bool:
    allowed = dropped.get(key, ())
    return allowed is None or value in allowed


def _number(value: Json) -> Json:
    """The number in a NumPy array of Keras 2, such as the bound of a ReLU."""
    match value:
        case {"type": "ndarray", "value": number}:
            return number
        case {"class_name": "__numpy__" | "__ndarray__", "config": {"value": number}}:
            return number
    return value


def _activations(config: Saved) -> list[Json]:
    given = [config.get(key) for key in ("activation", "recurrent_activation")]
    return [one.get("config") if isinstance(one, dict) else one for one in given]


def _computed_otherwise(what: str) -> Unloadable:
    return Unloadable(
        f"it holds {what}, which Keras of today computes otherwise than the one that saved it; load it "
        "there, put another layer in its place and save it again."
    )
