"""A SavedModel folder as a source of heads."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import keras

from service.errors import CommandError
from service.lab.models.cutting import Cut
from service.lab.models.saved_model.folder import files_of
from service.lab.models.saved_model.graph_cut import cut_graph
from service.lab.models.saved_model.signature import Signature, read_signature
from service.store.card import Format, Preprocessing


@dataclass(frozen=True)
class SavedModelSource:
    """A folder that TensorFlow's `saved_model.save` or Keras wrote; its graph is cut, not its layers."""

    folder: Path
    signature: Signature

    @property
    def format(self) -> Format:
        return "saved_model"

    @property
    def unsaid(self) -> None:
        return None

    def keep(self, folder: Path) -> None:
        """Copies the files that belong to a SavedModel, and no others, to a version's folder."""
        for name in files_of(self.folder):
            target = folder / "saved_model" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, target)

    @property
    def model(self) -> keras.Model:
        raise CommandError(
            "A SavedModel is a graph without Keras' layers; name a model saved as .keras or .h5."
        )

    @property
    def own_size(self) -> tuple[int | None, int | None]:
        return self.signature.size

    @property
    def notes(self) -> tuple[str, ...]:
        if self.signature.half is None:
            return ()
        return (f"the model was trained in mixed_{self.signature.half}; it is served in float32",)

    def cut(self, size: tuple[int, int], preprocessing: Preprocessing | None) -> Cut:
        return cut_graph(self.folder, self.signature, size, preprocessing)


def open_saved_model(folder: Path) -> SavedModelSource:
    """Reads a SavedModel. Raises CommandError with one sentence on what is wrong with it."""
    return SavedModelSource(folder, read_signature(folder))
