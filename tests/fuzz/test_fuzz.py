"""Hostile requests are answered as documented, soon, and without harm to anybody else."""

import asyncio
import json
import math
import struct

import pytest
from fakes import MeanBackbone, picture
from fuzz.applications import Crowded, on_fakes, on_store
from fuzz.campaign import run
from fuzz.in_process import Answer, ask, started
from fuzz.kinds import KINDS, hostile
from fuzz.oracle import JSON_SIZE, fault
from fuzz.requests import Request

BLUE = Request("/predict", b"top_k=1", body=picture("blue"))
LABEL = '"label":"blue"'
SEED = 2026
ALLOWED_MB = 64  # it grows by leaps, to what the allocator needs, and stays there


def attack(app, numbers, honest=BLUE, expected=LABEL):
    """A campaign of these requests in which nothing may go wrong."""
    figures = asyncio.run(run(app, honest, expected, SEED, numbers))
    print(figures)  # which pytest shows where something failed, or with -s
    assert not figures.faults, "\n".join(figures.faults[:20])
    assert figures.requests == len(numbers)
    assert figures.kinds.keys() == KINDS.keys()
    assert figures.statuses[200] > len(numbers) / 20, "nearly all broken: nothing deep was reached"
    return figures


def test_600_hostile_requests_are_answered_as_documented():
    backbone = Crowded()
    attack(on_fakes(backbone), range(600))
    assert backbone.shared > 30, "the neighbours rode alone"


@pytest.mark.slow
def test_20000_hostile_requests_are_answered_as_documented_and_cost_no_memory():
    figures = attack(on_fakes(Crowded()), range(20_000))
    assert figures.growth_mb <= ALLOWED_MB


@pytest.mark.slow
def test_1000_hostile_requests_do_not_disturb_a_real_resnet50(small_store):
    honest = Request("/predict", b"top_k=1", body=picture("blue", (64, 64)))
    app = on_store(small_store)

    async def alone():
        async with started(app):
            return json.loads((await ask(app, honest)).body)["results"]

    expected = json.dumps(asyncio.run(alone())[0]["predictions"][0]["label"])
    attack(on_store(small_store), range(100_000, 101_000), honest, f'"label":{expected}')


def test_a_request_is_the_same_whenever_it_is_made():
    assert [hostile(1, number) for number in (7, 8)] == [hostile(1, number) for number in (7, 8)]
    assert hostile(1, 7) != hostile(2, 7)


# that the campaign finds what it looks for


class Leaky(MeanBackbone):
    """Keeps 500 KB of each batch."""

    def compute(self, batch):
        self.batches.append(bytearray(b"x") * 500_000)
        return super().compute(batch)


class Sometimes(MeanBackbone):
    """Fails for whole batches that hold a picture it does not like, as a careless engine would."""

    def compute(self, batch):
        if batch.mean() < 100:
            raise RuntimeError("on purpose")
        return super().compute(batch)


def figures_of(backbone, requests=400):
    return asyncio.run(run(on_fakes(backbone), BLUE, LABEL, SEED, range(requests)))


def test_an_engine_that_fails_for_some_pictures_is_found():
    told = "\n".join(figures_of(Sometimes()).faults)
    assert "status 500" in told
    assert "the neighbour of" in told


def test_an_engine_that_keeps_memory_is_found():
    leaky = Leaky()
    assert figures_of(leaky, 1500).growth_mb > ALLOWED_MB
    leaky.batches.clear()  # its application is a cycle, which Python may leave for the rest of the run


def answer(status=422, body=None, media_type="application/problem+json"):
    told = {"type": "t", "title": "t", "status": status, "detail": "d.", "error": "d."} | (body or {})
    return Answer(status, {"content-type": media_type}, json.dumps(told).encode(), 0.1)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (answer(500), "status 500"),
        (answer(418), "status 418"),
        (answer(429), "status 429"),
        (answer(media_type="text/plain"), "media type"),
        (answer(body={"status": 404}), "not one sentence"),
        (answer(body={"detail": "cannot open /usr/lib/x"}), "tells too much"),
        (answer(200, {"probability": 1.5}, "application/json"), "probabilities"),
        (answer(200, None, "application/json"), "probabilities"),
    ],
)
def test_the_oracle_objects_to(wrong, why):
    assert fault(BLUE, answer()) is None
    assert why in fault(BLUE, wrong)


V2, V1 = Request("/v2/models/{head}/infer"), Request("/v1/models/{head}:predict")


def tensor(datatype="FP32", data=None, behind=b"", shape=(1, 1)):
    """An answer of /infer that holds this output."""
    told = {"outputs": [{"datatype": datatype, "shape": shape} | ({"data": data} if data else {})]}
    text = json.dumps(told).encode()
    media_type = "application/octet-stream" if behind else "application/json"
    headers = {"content-type": media_type} | ({JSON_SIZE: str(len(text))} if behind else {})
    return Answer(200, headers, text + behind, 0.1)


def text(element):
    """In binary: behind its length."""
    return struct.pack("<I", len(element)) + element


def rows(**told):
    return Answer(200, {"content-type": "application/json"}, json.dumps(told).encode(), 0.1)


@pytest.mark.parametrize(
    ("request_", "right", "wrong"),
    [
        (V2, tensor(data=[0.5]), tensor(data=[1.5])),
        (V2, tensor(behind=struct.pack("<f", 0.5)), tensor(behind=struct.pack("<f", math.nan))),
        (V2, tensor("BYTES", ["0.5:0:red"]), tensor("BYTES", ["-1:0:red"])),
        (V2, tensor("BYTES", behind=text(b"0.5:0:red")), tensor("BYTES", behind=text(b"2:0:red"))),
        (V1, rows(predictions=[[0.5, 0.5]]), rows(predictions=[[0.5, -0.5]])),
        (V1, rows(outputs=[[0.5, 0.5]]), rows(outputs=[[math.inf]])),
    ],
)
def test_the_oracle_reads_the_answers_of_other_protocols(request_, right, wrong):
    assert fault(request_, right) is None
    assert "probabilities" in fault(request_, wrong)


def test_the_oracle_counts_what_a_tensor_holds():
    assert "do not fill" in fault(V2, tensor(data=[0.5], shape=(1, 2)))


# what earlier campaigns have found


def asked(request):
    """The answer of an application of its own."""

    async def asking():
        app = on_fakes(MeanBackbone())
        async with started(app):
            return await ask(app, request)

    return asyncio.run(asking())


def test_a_content_length_of_5000_digits_is_too_large_and_no_fault():
    request = Request("/predict", headers=((b"content-length", b"9" * 5000),), body=BLUE.body)
    assert asked(request).status == 413


def test_a_field_whose_name_holds_a_line_break_is_refused_in_one_line():
    name = b'file"\r\nContent-Type: image/png'
    body = b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n1\r\n--x--\r\n'
    headers = ((b"content-type", b"multipart/form-data; boundary=x"),)
    for wanted in (body, body.replace(b"\r\nContent-T", b"\nContent-T")):
        request = Request("/predict", headers=headers, body=wanted)
        assert fault(request, asked(request)) is None
