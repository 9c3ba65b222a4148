"""Other Pythons of this machine."""

import os
import shutil
import subprocess
from pathlib import Path


def python_of(version: str) -> str | None:
    """Where a Python of that version is: on PATH, or one of pyenv's that is not chosen."""
    below = sorted(pyenv_root().glob(f"versions/{version}.*/bin/python"))
    for command in filter(shutil.which, [f"python{version}", *map(str, below)]):
        asked = [command, "-c", "import sys; print(sys.executable)"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def pyenv_root() -> Path:
    """The folder in which pyenv keeps its Pythons."""
    if shutil.which("pyenv"):
        return Path(subprocess.check_output(["pyenv", "root"], text=True, timeout=60).strip())
    return Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
