"""Opens a source of any format, from a path that somebody gave or from a version in the store."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import keras

from service.lab.models.archive import packed
from service.lab.models.cutting import Cut, OpenedSource
from service.lab.models.formats import recognise
from service.lab.models.graph import own_size
from service.lab.models.reading import Loaded, load
from service.lab.models.saved_model.source import open_saved_model
from service.lab.models.split import split
from service.store.card import MAIN_FILE, Card, Format, Preprocessing
from service.store.layout import ARCHITECTURE, Store


def open_source(
    path: Path, architecture: Path | None = None, *, is_preprocessing_said: bool = False
) -> OpenedSource:
    """Reads a saved model, of the format that its content says.

    `architecture` is what `model.to_json()` wrote, for a file of weights alone. Where the preprocessing
    is said, a Lambda on the input that only names a function is taken for it and left out. Raises
    CommandError with one sentence on what is wrong with it.
    """
    found = recognise(path, has_architecture=architecture is not None)
    if found == "saved_model":
        return open_saved_model(path)
    loaded = load(path, architecture, lambda_is_identity=is_preprocessing_said)
    return KerasSource(found, path, architecture, loaded)


def open_version(store: Store, card: Card) -> OpenedSource:
    """Reads the source of a version. Raises VersionError if it is damaged, or as `open_source`."""
    path = store.source_of(card)
    architecture = path.with_name(ARCHITECTURE) if ARCHITECTURE in card.source.files else None
    return open_source(path, architecture, is_preprocessing_said=True)


@dataclass(frozen=True)
class KerasSource:
    """A model in Keras of today, from a file of any Keras."""

    format: Format
    path: Path
    architecture: Path | None
    loaded: Loaded

    @property
    def model(self) -> keras.Model:
        return self.loaded.model

    @property
    def own_size(self) -> tuple[int | None, int | None]:
        return own_size(self.model)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.loaded.notes

    @property
    def unsaid(self) -> str | None:
        return self.loaded.unsaid

    def keep(self, folder: Path) -> None:
        target = folder / MAIN_FILE[self.format]
        if self.path.is_dir():
            packed(self.path, target)
        else:
            shutil.copyfile(self.path, target)
        if self.architecture:
            shutil.copyfile(self.architecture, folder / ARCHITECTURE)

    def cut(self, size: tuple[int, int], preprocessing: Preprocessing | None) -> Cut:
        return split(
            self.model,
            size,
            preprocessing,
            loss=self.loaded.loss,
            is_from_logits=self.loaded.is_from_logits,
        )
