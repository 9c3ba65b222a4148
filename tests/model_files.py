"""Saved models as people have them, each with the answers of the framework that wrote it.

Some lie in tests/cases/models, and more in ../shared/cases/models beside the checkout, where that is.
"""

import json
from pathlib import Path

CASES = Path(__file__).parent / "cases/models"
SHARED = Path(__file__).parents[2] / "shared/cases/models"
FOLDERS = {
    path.stem: folder
    for folder in (SHARED, CASES)
    for path in sorted(folder.glob("*.json"))
    if not path.name.endswith(".architecture.json")
}
SPECS = {
    name: json.loads((folder / f"{name}.json").read_text()) for name, folder in sorted(FOLDERS.items())
}


def model_file(name: str) -> Path:
    """The file or folder that was saved; of a pair, the weights."""
    return FOLDERS[name] / SPECS[name]["file"]


def architecture(name: str) -> Path | None:
    """What `model.to_json()` gave, of a pair."""
    return next(FOLDERS[name].rglob(f"{name}.architecture.json"), None)


def picture_files(name: str) -> list[Path]:
    """The three pictures that the answers of a specification are of, in the size of its input."""
    return [FOLDERS[name] / f"pictures/{SPECS[name]['size']}-{number}.png" for number in range(3)]
