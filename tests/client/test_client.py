"""Both clients and the real application, on heads whose answers are known."""

import asyncio
import dataclasses
import subprocess
import sys
import threading

import pytest
from children import FAKE, python
from fakes import fake_heads, picture
from live import running
from stored import filled
from waiting import PATIENCE_S, wait_until

from service.api.schemas.results import Predicted
from service.app import create_app
from service.benchmark.bench import Bench
from service.benchmark.report import Report
from service.client import AsyncClient, Refused, TimedOut, calls
from service.settings import Settings


@pytest.fixture(scope="module")
def url():
    """Of a server that asks for the key `right`."""
    heads = fake_heads()
    with running(create_app(Settings(api_keys="right"), heads_=heads)) as url:
        wait_until(lambda: not heads.is_loading)
        yield url


@pytest.fixture
def ask(call, url):
    return lambda name, *args, **kwargs: call(url, name, *args, api_key=" right\n", **kwargs)


def test_images_are_bytes_or_paths_and_are_answered_in_order(ask, tmp_path):
    (tmp_path / "green.png").write_bytes(picture("green"))
    answer = ask(
        "predict", picture("red"), tmp_path / "green.png", str(tmp_path / "green.png"), head="gap"
    )
    assert answer.head == "gap"
    assert [result.predictions[0].label for result in answer.results] == ["red", "green", "green"]


def test_a_head_and_the_number_of_classes_can_be_chosen(ask):
    answer = ask("predict", picture(), head="flatten", top_k=2)
    assert answer.head == "flatten"
    assert len(answer.results[0].predictions) == 2


def test_heads_are_compared(ask):
    every = ask("compare", picture("blue"), top_k=1)
    assert {head.head for head in every.heads} == {"gap", "flatten"}
    assert every.results[0].predictions["flatten"][0].label == "blue"
    assert every.results[0].agree
    assert list(ask("compare", picture(), heads=["gap"]).results[0].predictions) == ["gap"]


def test_the_heads_of_the_store_are_listed(ask):
    assert [head.head for head in ask("heads").heads] == ["flatten", "gap"]


@pytest.mark.parametrize(
    ("name", "images", "given", "status", "kind"),
    [
        ("predict", [picture()], {"head": "nope"}, 404, "unknown-head"),
        ("predict", [picture()], {"top_k": 0}, 422, "bad-parameter"),
        ("predict", [], {}, 422, "no-images"),
        ("benchmark", [], {}, 404, "no-report"),
        ("measure", [], {"seconds": 0.5}, 422, "bad-parameter"),
        ("measure", [], {"heads": ["nope"]}, 404, "unknown-head"),
    ],
)
def test_what_the_service_refuses_says_so(call, tmp_path, name, images, given, status, kind):
    heads = fake_heads()
    with running(create_app(Settings(store_dir=tmp_path), heads_=heads)) as url:
        wait_until(lambda: not heads.is_loading)
        with pytest.raises(Refused) as refused:
            call(url, name, *images, **given)
    assert (refused.value.status, refused.value.kind) == (status, kind)
    assert refused.value.image is None
    assert str(refused.value) == refused.value.detail


@pytest.mark.parametrize("heads", [[], [""]])
def test_no_heads_are_not_all_heads(ask, heads):
    with pytest.raises(Refused, match="no head named ''"):
        ask("compare", picture(), heads=heads)


def test_no_time_is_not_the_usual_time(ask):
    with pytest.raises(TimedOut):
        ask("predict", picture(), timeout_s=0)


class Witness:
    """The path of a file; tells which threads asked for it."""

    def __init__(self, path):
        self.path, self.threads = path, []

    def __fspath__(self):
        self.threads.append(threading.get_ident())
        return str(self.path)


def test_an_event_loop_reads_no_files_and_no_long_answers(url, tmp_path):
    (tmp_path / "red.png").write_bytes(picture("red"))
    image, read_in = Witness(tmp_path / "red.png"), []

    def read(body):
        read_in.append(threading.get_ident())
        return Predicted.model_validate_json(body)

    async def send():
        async with AsyncClient(url, api_key="right") as client:
            return await client.send(dataclasses.replace(calls.predict(image), read=read))

    assert asyncio.run(send()).results[0].predictions[0].label == "red"
    assert threading.get_ident() not in {*image.threads, *read_in}
    assert image.threads
    assert read_in


def test_a_broken_image_is_named_by_its_index(ask):
    with pytest.raises(Refused, match=r"^Image 1: ") as refused:
        ask("predict", picture(), b"no image", picture())
    assert (refused.value.kind, refused.value.image) == ("not-an-image", 1)


@pytest.mark.parametrize("key", [None, "wrong", "schlüssel"])
def test_no_key_or_a_wrong_one_is_refused(call, url, key):
    with pytest.raises(Refused, match="API key") as refused:
        call(url, "heads", api_key=key)
    assert refused.value.status == 401


def test_a_file_that_is_not_there_is_the_oserror_that_it_is(ask, tmp_path):
    with pytest.raises(FileNotFoundError):
        ask("predict", tmp_path / "nothing.jpg")


@pytest.fixture
def measuring(tmp_path):
    """Gives a server whose benchmark runs fake children, and its bench."""
    store = filled(tmp_path, "gap")
    heads = fake_heads()
    app = create_app(Settings(store_dir=store.root), heads_=heads)
    bench = Bench(store, 1, command=python(FAKE))
    app.state.context = dataclasses.replace(app.state.context, bench=bench)
    with running(app) as url:
        wait_until(lambda: not heads.is_loading)
        yield url, bench


def test_a_benchmark_tells_its_progress_and_returns_its_report(call, measuring):
    url, _ = measuring
    told = []
    report = call(url, "measure", heads=["gap"], batch_sizes=[1], seconds=2, on_progress=told.append)
    assert isinstance(report, Report)
    assert [row.batch_size for row in report.heads[0].latency] == [1]
    assert told[0].doing == "gap on openvino: memory"
    assert call(url, "benchmark") == report


def test_a_call_that_is_cancelled_ends_the_run(measuring):
    url, bench = measuring

    async def cancel():
        begun = asyncio.Event()
        async with AsyncClient(url) as client:
            measuring = asyncio.ensure_future(
                client.measure(heads=["gap"], seconds=60, on_progress=lambda _: begun.set())
            )
            await asyncio.wait_for(begun.wait(), PATIENCE_S)
            assert bench.is_running()
            measuring.cancel()

    asyncio.run(cancel())
    wait_until(lambda: not bench.is_running())


def test_one_client_serves_several_threads(url):
    from service.client import Client

    labels = {}
    with Client(url, api_key="right") as client:

        def ask(colour):
            labels[colour] = client.predict(picture(colour)).results[0].predictions[0].label

        threads = [threading.Thread(target=ask, args=[colour]) for colour in ("red", "green", "blue")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert labels == {colour: colour for colour in ("red", "green", "blue")}


def test_importing_it_loads_neither_a_server_nor_an_engine():
    code = "import sys, service.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "httpx" in done.stdout.split()
    assert not {"fastapi", "starlette", "uvicorn", "openvino", "tensorflow", "keras"} & set(
        done.stdout.split()
    )
