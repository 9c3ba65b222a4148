"""The rules of the house that a program can check."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from fakes import fake_heads, picture
from waiting import until

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "service").rglob("*.py"))


def test_imports_point_down_and_tensorflow_stays_in_its_rooms():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_lives_there(path):
    text = path.read_text()
    assert not text or text.startswith('"""'), "no docstring"


@pytest.mark.parametrize(
    "lock",
    [f"requirements{kind}.lock" for kind in ("", "-build", "-ray", "-serve")],
)
def test_locks_pin_hashes_and_name_no_host(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)


def test_the_serving_lock_is_the_whole_one_without_tensorflow():
    def pins(lock):
        lines = (ROOT / lock).read_text().splitlines()
        return {line.split(" ;")[0].rstrip(" \\") for line in lines if line and line[0].isalnum()}

    serve, whole = pins("requirements-serve.lock"), pins("requirements.lock")
    assert serve < whole
    names = {pin.partition("==")[0] for pin in serve}
    assert "openvino" in names
    assert not names & {"tensorflow", "keras", "nncf", "h5py", "pytest"}


WAY = ["api/edge", "api/gate", "api/routes/predict", "api/body", "serving/classifier", "serving/batcher"]


def test_the_way_of_predict_is_edge_gate_route_body_classifier_batcher_engine():
    """Each room is entered in this order: by its first call in whatever thread, on one real request."""
    entered = dict.fromkeys(_entered_on_the_way_of_predict())
    assert [name for name in entered if name in {*WAY, "engine"}] == [*WAY, "engine"]


def test_nothing_on_the_way_is_called_upwards():
    """No room of the way imports one that comes before it."""
    for at, name in enumerate(WAY):
        text = (ROOT / "service" / f"{name}.py").read_text()
        for before in WAY[:at]:
            assert f"service.{before.replace('/', '.')} import" not in text, f"{name} knows {before}"


def _entered_on_the_way_of_predict():
    """The modules in which functions are called, in order; `engine` is a head's network."""
    app = create_app(Settings(), heads_=fake_heads())
    entered = []

    def look(frame, event, _):
        file = Path(frame.f_code.co_filename)
        if frame.f_code.co_name == "__init__":  # the stack of middleware is put together from the inside
            return
        if event == "call" and file.is_relative_to(ROOT / "service"):
            entered.append(str(file.relative_to(ROOT / "service").with_suffix("")))
        elif event == "call" and file.name == "fakes.py" and frame.f_code.co_name == "compute":
            entered.append("engine")

    async def ask():
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://house") as client,
        ):
            await until(app.state.context.heads.has_loaded)
            threading.setprofile(look)  # of the threads that this request starts
            sys.setprofile(look)
            try:
                return await client.post("/predict", content=picture())
            finally:
                sys.setprofile(None)
                threading.setprofile(None)

    assert asyncio.run(ask()).status_code == 200
    return entered
