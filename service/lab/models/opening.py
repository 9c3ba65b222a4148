"""Opens a source of any format, from a path that somebody gave or from a version in the store."""

from dataclasses import dataclass
from pathlib import Path

import keras

from service.lab.models.cutting import Cut, OpenedSource
from service.lab.models.graph import own_size
from service.lab.models.reading import Loaded, load
from service.lab.models.saved_model.source import open_saved_model
from service.lab.models.split import split
from service.store.card import MAIN_FILE, Card, Format, Preprocessing
from service.store.layout import Store


def open_source(path: Path) -> OpenedSource:
    """Reads a saved model. Raises CommandError with one sentence on what is wrong with it."""
    if path.is_dir():
        return open_saved_model(path)
    return KerasSource("keras", {MAIN_FILE["keras"]: path}, load(path))


def open_version(store: Store, card: Card) -> OpenedSource:
    """Reads the source of a version. Raises VersionError if it is damaged, or as `open_source`."""
    return open_source(store.source_of(card))


@dataclass(frozen=True)
class KerasSource:
    """A model in Keras of today, from a file of any Keras."""

    format: Format
    files: dict[str, Path]
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

    def cut(self, size: tuple[int, int], preprocessing: Preprocessing | None) -> Cut:
        return split(self.model, size, preprocessing)
