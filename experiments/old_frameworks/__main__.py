"""Makes old environments, saves real ResNet50s in them, and compares what is served with what they gave.

usage: PYTHONPATH=tests python experiments/old_frameworks FOLDER
"""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from process import run, serving
from pythons import python_of

from service.store.layout import Store

HERE = Path(__file__).parent
PHOTOGRAPHS = HERE.parents[2] / "shared/data/grocery10/test"
SIDE, CLASSES, SHOWN = 224, 10, 3
WITHIN = 1e-4
ENVIRONMENTS = {  # By shape: the Python, and what pip installs.
    "flatten-h5": ("3.7", "tensorflow==1.15.5 keras==2.3.1 h5py==2.10.0 protobuf==3.20.3 pillow"),
    "sequential-h5": ("3.8", "tensorflow-cpu==2.4.4 protobuf==3.20.3 pillow"),
    "nested-keras": ("3.11", "tensorflow-cpu==2.15.1 pillow"),
    "nested-folder": ("3.11", "tensorflow-cpu==2.15.1 pillow"),
    "sequential-keras": ("3.11", "tensorflow-cpu==2.16.2 keras==3.3.3 pillow"),
}


def python_with(version: str, packages: str, folder: Path) -> Path:
    """The Python of an environment that holds these packages, made where it is not there yet."""
    place = folder / "-".join((version, *packages.split())).replace("=", "")
    python = place / "bin/python"
    if not (place / "installed").exists():
        interpreter = python_of(version)
        if interpreter is None:
            sys.exit(f"Python {version} is neither on PATH nor of pyenv.")
        subprocess.run([interpreter, "-m", "venv", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages.split()], check=True)
        (place / "installed").touch()
    return python


def saved(shape: str, folder: Path) -> Path:
    """The folder in which a model of this shape lies, with the pictures and the answers for them."""
    place = folder / shape
    if not (place / "saved.json").exists():
        place.mkdir(exist_ok=True)
        for number, of_class in enumerate(sorted(PHOTOGRAPHS.glob("*/"))[:SHOWN]):
            photograph = Image.open(min(of_class.iterdir())).convert("RGB").resize((SIDE, SIDE))
            photograph.save(place / f"{number}.png")
        python = python_with(*ENVIRONMENTS[shape], folder)
        subprocess.run([python, HERE / "save.py", shape, place], check=True)
    return place


def import_it(shape: str, place: Path, store: Store) -> None:
    """Imports as somebody does who knows the training, and nothing else."""
    told = json.loads((place / "saved.json").read_text())
    labels = place / "labels.txt"
    labels.write_text("\n".join(f"class {number}" for number in range(CLASSES)))
    said = ["--preprocessing", told["pixels"]] if told["pixels"] != "none" else []
    given = ["--head", shape, "--labels", str(labels), *said, "--store-dir", str(store.root)]
    done = run("import", str(place / told["file"]), *given)
    print(done.stdout + done.stderr)
    done.check_returncode()


def difference(shape: str, place: Path, url: str) -> float:
    """The largest difference of a served probability from that of the framework."""
    expected = json.loads((place / "saved.json").read_text())["answers"]
    served = []
    for number in range(SHOWN):
        picture = (place / f"{number}.png").read_bytes()
        given = {"params": {"head": shape, "top_k": CLASSES}, "headers": {"Content-Type": "image/png"}}
        answer = httpx.post(f"{url}/predict", content=picture, **given).raise_for_status()
        ranked = answer.json()["results"][0]["predictions"]
        served.append([one["probability"] for one in sorted(ranked, key=lambda one: one["index"])])
    return float(np.abs(np.array(served) - expected).max())


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(exist_ok=True)
    store = Store(folder / "store", folder / "cache")
    places = {shape: saved(shape, folder) for shape in ENVIRONMENTS}
    for shape, place in places.items():
        import_it(shape, place, store)
    with serving(store) as server:
        found = {shape: difference(shape, place, server.url) for shape, place in places.items()}
    for shape, largest in found.items():
        python, packages = ENVIRONMENTS[shape]
        print(f"| {shape} | {python} | {packages} | {largest:.0e} |")
    sys.exit(max(found.values()) > WITHIN)


main()
