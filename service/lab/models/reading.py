"""Reads saved Keras files of any age as untrusted files: data is corrected, and no code in them runs."""

import copy
import math
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
from keras.src.backend.common import global_state
from keras.src.saving.serialization_lib import ObjectSharingScope

from service.errors import CommandError
from service.lab.models.archive import check_archive, check_folder
from service.lab.models.formats import name_of, recognise
from service.lab.models.saved import OTHERS, Saved, Unloadable
from service.lab.models.saved.configuration import function_of_lambda, modernised
from service.lab.models.saved.hdf5 import opened
from service.lab.models.saved.parts import Parts, of_h5, of_keras
from service.lab.models.saved.variables import assign_by_name, assign_by_path

MADE_UP = "freshly-initialized weights"
UNINITIALIZED = "uninitialized_variables"
CUSTOM_OBJECTS = (
    "Could not (?:locate|deserialize) (?:class |function )?'([^']*)'",
    r"Could not interpret \w+ (?:function )?identifier: (\w+)",
)


@dataclass(frozen=True)
class Loaded:
    """A model in Keras of today; `notes` say what was changed on the way, a sentence each.

    `loss` is the name in the file's compile configuration, where it has one. `unsaid` is why it
    is refused unless somebody says what a Lambda did that was left out.
    """

    model: keras.Model
    loss: str | None = None
    is_from_logits: bool = False
    notes: tuple[str, ...] = ()
    unsaid: str | None = None


def load_model(path: Path) -> keras.Model:
    """The model of a saved file. Raises CommandError, as `load` does."""
    return load(path).model


def load(path: Path, architecture: Path | None = None, *, lambda_is_identity: bool = False) -> Loaded:
    """Loads a `.keras` or `.h5` file of any Keras, or an unpacked `.keras` folder, whatever its name.

    With `architecture`, the output of `model.to_json()`, an HDF5 file may hold weights alone. With
    `lambda_is_identity` a Lambda directly on the input that only names a function is left out: what it
    did must then come in front of the model. Raises CommandError for everything that cannot be loaded.
    """
    found = recognise(path, has_architecture=architecture is not None)
    if found == "saved_model":
        raise CommandError(f"{name_of(path)} is a SavedModel, which holds no model of Keras 3.")
    if found == "keras" and architecture is not None:
        raise CommandError(f"{name_of(path)} holds its own layers; leave out --architecture.")
    if found == "keras":
        (check_archive if path.is_file() else check_folder)(path)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = of_h5(path, architecture, folder) if found == "h5" else of_keras(path, folder)
            return _loaded(source, lambda_is_identity)
    except CommandError:
        raise
    except Unloadable as exc:
        raise CommandError(f"{name_of(path)} cannot be loaded: {exc}") from exc
    except Exception as exc:  # A broken file may make Keras raise anything.
        raise CommandError(f"{name_of(path)} cannot be loaded: {_reason(str(exc))}") from exc


def _loaded(source: Parts, lambda_is_identity: bool) -> Loaded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where weights are missing, Keras may only warn that it initialised them at random.
        warnings.filterwarnings("error", message=f".*{MADE_UP}")
        model, notes, left_out = _modern(source, lambda_is_identity)
        if model.built:  # Else it never knew its input, and has no weights yet.
            _assign(model, source)
    unsaid = f"The model cannot be imported: {_told_lambda(left_out)}" if left_out else None
    return Loaded(model, source.loss.name, source.loss.is_from_logits, tuple(notes), unsaid)


def _modern(source: Parts, lambda_is_identity: bool) -> tuple[keras.Model, list[str], str | None]:
    """The model without its weights, what was changed, and the function of a Lambda that was left out.

    A Lambda that Keras knows stays one.
    """
    changed = modernised(source.config, source.version)
    try:
        return _built(changed.config, source.values), changed.notes, None
    except Exception as exc:
        function = function_of_lambda(source.config)
        if function is None:
            raise
        changed = modernised(source.config, source.version, is_lambda_identity=lambda_is_identity)
        if function_of_lambda(changed.config) is not None:
            raise Unloadable(_told_lambda(function)) from exc
    return _built(changed.config, source.values), changed.notes, function


def _built(config: Saved, values: int) -> keras.Model:
    """The model of a configuration of today; no variable is made that the file cannot fill."""
    try:
        with keras.StatelessScope(initialize_variables=False), ObjectSharingScope():
            # Keras takes apart what it is given.
            model = keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)
            if not isinstance(model, keras.Model):
                raise Unloadable("its configuration is that of no model.")
            if model.built and sum(math.prod(one.shape) for one in model.weights) > values:
                raise Unloadable(OTHERS)
        with keras.StatelessScope():
            pass  # At its end Keras makes the variables.
        return model
    finally:
        global_state.set_global_attribute(UNINITIALIZED, [])


def _assign(model: keras.Model, source: Parts) -> None:
    if source.layout == "places":
        model.load_weights(source.weights)
        return
    with opened(source.weights) as file:
        group = file[source.group or "/"]
        if source.layout == "names":
            assign_by_name(model, source.config, group, source.version)
        else:
            assign_by_path(model, source.config, group)


def _told_lambda(function: str) -> str:
    return (
        f"it holds Lambda({function[:40]}), a name that does not say whose function it is; say what it "
        "does with --preprocessing, have --check find it out, or put Rescaling in its place and save it "
        "again."
    )


def _reason(message: str) -> str:
    """Shortens Keras' multi-line messages to one sentence for the common causes."""
    for pattern in CUSTOM_OBJECTS:
        if found := re.search(pattern, message):
            name = found[1].rpartition(".")[2][:60]
            return (
                f"it holds {name!r}, a custom object, which only the code it was written with can load; "
                "put layers of Keras in its place and save it again."
            )
    if MADE_UP in message or "objects could not be loaded" in message:
        return OTHERS
    told = message.rpartition("Exception encountered: ")[2].strip() or "no reason given"
    return f"{told.splitlines()[0][:150].rstrip('.')}."
