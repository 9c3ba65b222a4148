"""Numbers in JSON have the digits that mean something: a machine's own noise is not sent."""

import base64
import json
from decimal import Decimal

import numpy as np
import pytest
from fakes import picture

ODD = picture((201, 103, 7))
FILE = base64.b64encode(ODD).decode()
TENSOR = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [FILE]}
ANSWERS = {
    "predict": ("/predict", {"images": [FILE]}),
    "compare": ("/compare", {"images": [FILE] * 3}),
    "explain": ("/explain", {"images": [FILE]}),
    "shift": ("/shift", {"images": [FILE], "offset": ["0,0", "1,0", "0,1"]}),
    "v1": ("/v1/models/gap:predict", {"instances": [{"b64": FILE}]}),
    "v1 column": ("/v1/models/gap:predict", {"inputs": [{"b64": FILE}]}),
    "v2": ("/v2/models/gap/infer", {"inputs": [TENSOR]}),
}


def numbers(response) -> list[Decimal]:
    """Those with a point, as they were written."""
    assert response.status_code == 200, response.text
    found: list[Decimal] = []
    json.loads(response.text, parse_float=lambda text: found.append(Decimal(text)))
    return found


def digits(number: Decimal) -> int:
    return len(number.normalize().as_tuple().digits)


@pytest.mark.parametrize(("path", "body"), ANSWERS.values(), ids=ANSWERS)
def test_a_number_has_at_most_seven_significant_digits(linear, path, body):
    answer = linear.post(path, json=body)
    timing = answer.json().get("timing_ms", {}).values()
    told = [number for number in numbers(answer) if float(number) not in timing]
    assert told
    assert max(map(digits, told)) <= 7, told


@pytest.mark.parametrize("name", ["predict", "compare", "explain", "shift"])
def test_a_time_has_at_most_three_decimals(linear, name):
    path, body = ANSWERS[name]
    timing = linear.post(path, json=body).json()["timing_ms"]
    assert all(round(ms, 3) == ms for ms in timing.values()), timing
    assert timing["total"] > 0


def test_every_protocol_tells_the_same_probabilities(linear):
    ours = linear.post("/predict?head=gap", json={"images": [FILE]}).json()["results"][0]["predictions"]
    by_index = [one["probability"] for one in sorted(ours, key=lambda one: one["index"])]
    v1, v2 = (linear.post(path, json=body).json() for path, body in (ANSWERS["v1"], ANSWERS["v2"]))
    assert v1["predictions"] == [by_index]
    assert v2["outputs"][0]["data"] == by_index


def test_binary_tensors_keep_every_bit(linear):
    def data(is_binary):
        asked = {"inputs": [TENSOR], "parameters": {"binary_data_output": is_binary}}
        return linear.post("/v2/models/gap/infer", json=asked)

    exact = np.frombuffer(data(True).content[-12:], "<f4")
    told = np.array(data(False).json()["outputs"][0]["data"])
    assert (told != exact).any()
    np.testing.assert_allclose(told, exact, rtol=5e-7)
