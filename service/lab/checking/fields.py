"""The fields of an input that photographs can tell. Nothing slow is imported here."""

from typing import Literal

from service.store.card import Exif, Preprocessing, Resize

Field = Literal["preprocessing", "resize", "exif"]
Value = Preprocessing | Resize | Exif
FIELDS: tuple[Field, ...] = ("preprocessing", "resize", "exif")
