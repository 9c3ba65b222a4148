"""Bodies as tritonclient itself writes and reads them, and bodies that nobody should write."""

import base64
import json
from collections.abc import Mapping

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from fakes import SIDE, head, picture
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from service.api.protocols.v2 import wire
from service.errors import BadParameter, NoImages, TooManyImages

GAP = head("gap")
MAX_IMAGES = 4
SHAPE = [1, SIDE, SIDE, 3]
FILES = [picture("red"), picture("blue")]
IMAGES = st.integers(1, MAX_IMAGES).flatmap(lambda n: arrays.arrays(np.uint8, (n, SIDE, SIDE, 3)))


def written(name, datatype, array, is_binary=True, outputs=None):
    """The body of a request as the client of another server writes it, and its header."""
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    return InferenceServerClient.generate_request_body([tensor], outputs=outputs, request_id="7")


def read(body, json_size):
    return wire.read_request(body, json_size, GAP, MAX_IMAGES)


def request(**outputs):
    """One that asks for these outputs, or for none by name."""
    wanted = [InferRequestedOutput("probabilities", **outputs)] if outputs else None
    return read(*written("image_bytes", "BYTES", np.array(FILES, object), outputs=wanted))[0]


@given(IMAGES, st.booleans())
def test_pixels_are_read_as_the_client_wrote_them(images, is_binary):
    asked, pictures = read(*written("pixels", "UINT8", images, is_binary))
    np.testing.assert_array_equal(pictures, images)
    assert asked.id == "7"


@given(IMAGES)
def test_pixels_in_json_may_be_nested(images):
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": images.shape, "data": images.tolist()}
    _, pictures = read(json.dumps({"inputs": [tensor]}).encode(), None)
    np.testing.assert_array_equal(pictures, images)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=MAX_IMAGES))
def test_files_are_read_as_the_client_wrote_them(files):
    in_binary = read(*written("image_bytes", "BYTES", np.array([*files, None], object)[:-1]))[1]
    texts = np.array([base64.b64encode(file) for file in files], object)
    in_json = read(*written("image_bytes", "BYTES", texts, is_binary=False))[1]
    assert in_binary == in_json == files


def test_with_a_size_of_0_the_body_is_one_file():
    assert read(FILES[0], 0)[1] == [FILES[0]]


@given(arrays.arrays(np.float32, (3, 3), elements=st.floats(0, 1, width=32)), st.booleans())
def test_the_client_reads_the_probabilities_that_were_written(probabilities, is_binary):
    text, binary = wire.write_response(request(binary_data=is_binary), GAP, list(probabilities))
    size = len(text) if binary else None
    result = InferenceServerClient.parse_response_body(text + binary, header_length=size)
    lost = 0 if is_binary else 1e-6  # by seven digits in JSON
    np.testing.assert_allclose(result.as_numpy("probabilities"), probabilities, rtol=lost)
    assert bool(binary) == is_binary
    assert result.get_response()["id"] == "7"
    assert (result.get_response()["model_name"], result.get_response()["model_version"]) == ("gap", "1")


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize(("asked", "told"), [(1, 1), (2, 2), (3, 3), (1000, 3)])
def test_the_client_reads_classes_likeliest_first(is_binary, asked, told):
    probabilities = [np.array([0.25, 0.125, 0.625], np.float32), np.array([1, 0, 0], np.float32)]
    wanted = request(binary_data=is_binary, class_count=asked)
    text, binary = wire.write_response(wanted, GAP, probabilities)
    result = InferenceServerClient.parse_response_body(
        text + binary, header_length=len(text) if is_binary else None
    )
    classes = result.as_numpy("probabilities")
    assert classes.shape == (2, told)
    first = [one.decode() if isinstance(one, bytes) else one for one in classes[0]]
    assert first == ["0.625:2:blue", "0.25:0:red", "0.125:1:green"][:told]


@pytest.mark.parametrize(
    ("request_says", "output_says", "is_binary"),
    [(True, None, True), (True, False, False), (False, True, True), (None, None, False)],
)
def test_an_output_says_last_whether_it_is_binary(request_says, output_says, is_binary):
    said = {} if output_says is None else {"binary_data": output_says}
    body = spoilt(
        parameters={} if request_says is None else {"binary_data_output": request_says},
        outputs=[{"name": "probabilities", "parameters": said}],
    )
    _, binary = wire.write_response(read(body, None)[0], GAP, [np.zeros(3, np.float32)])
    assert bool(binary) == is_binary


def spoilt(tensor: Mapping = {}, **members) -> bytes:
    """A request in JSON, valid but for what is given: members of its input, and of itself."""
    data = [0] * (SIDE * SIDE * 3)
    sound = {"name": "pixels", "datatype": "UINT8", "shape": SHAPE, "data": data}
    whole = {"inputs": [sound | tensor]} | members
    return json.dumps(whole).encode()


def test_the_request_that_the_next_tests_spoil_is_sound():
    assert len(read(spoilt(), None)[1]) == 1


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "input"},
        {"name": "image_bytes"},
        {"datatype": "FP32"},
        {"datatype": "BYTES"},
        {"shape": [1, SIDE, SIDE, 1]},
        {"shape": [1, SIDE * SIDE * 3]},
        {"shape": []},
        {"shape": [-1, SIDE, SIDE, 3]},
        {"shape": [2**63, SIDE, SIDE, 3]},
        {"shape": [10**400, SIDE, SIDE, 3]},
        {"shape": [1.0, SIDE, SIDE, 3]},
        {"shape": [2, SIDE, SIDE, 3]},
        {"data": [0] * 5},
        {"data": None},
        {"data": [[0] * (SIDE * SIDE * 3)]},
        {"data": [256] * (SIDE * SIDE * 3)},
        {"data": [-1] * (SIDE * SIDE * 3)},
        {"data": [0.5] * (SIDE * SIDE * 3)},
        {"data": [True] * (SIDE * SIDE * 3)},
        {"data": ["0"] * (SIDE * SIDE * 3)},
        {"data": [10**30] * (SIDE * SIDE * 3)},
        {"data": [[0], [0, 0]]},
        {"data": None, "parameters": {"shared_memory_region": "mine", "shared_memory_byte_size": 192}},
        {"parameters": {"binary_data_size": 0}},
        {"data": None, "parameters": {"binary_data_size": 192}},
        {"data": None, "parameters": {"binary_data_size": "192"}},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [2], "data": ["aaaa"]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [5]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [1, 1], "data": ["aaaa"]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [], "data": ["aaaa"]},
    ],
    ids=str,
)
def test_an_input_that_is_not_as_declared_is_refused(tensor):
    with pytest.raises(BadParameter):
        read(spoilt(tensor), None)


@pytest.mark.parametrize(
    "members",
    [
        {"inputs": []},
        {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": SHAPE, "data": [0] * 192}] * 2},
        {"outputs": [{"name": "logits"}]},
        {"outputs": [{"name": "probabilities"}] * 2},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]},
        {"outputs": [{"name": "probabilities", "parameters": {"binary_data": "yes"}}]},
        {"outputs": [{"name": "probabilities", "parameters": {"shared_memory_region": "mine"}}]},
        {"parameters": {"timeout": -1}},
        {"parameters": {"timeout": 10**400}},
        {"id": 7},
    ],
    ids=str,
)
def test_a_request_that_cannot_be_answered_as_asked_is_refused(members):
    with pytest.raises(BadParameter):
        read(spoilt(**members), None)


def test_parameters_that_nobody_knows_are_accepted():
    read(spoilt({"parameters": {"mine": 1}}, parameters={"priority": 1, "sequence_id": 5}), None)


@pytest.mark.parametrize("body", [b"x", b"[]", b"{", b'{"inputs": [' + b"[" * 1000])
def test_what_is_not_a_request_is_refused(body):
    with pytest.raises(BadParameter):
        read(body, None)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0"])
@pytest.mark.parametrize(
    ("name", "datatype", "array"),
    [
        ("pixels", "UINT8", np.zeros(SHAPE, np.uint8)),
        ("image_bytes", "BYTES", np.array(FILES, object)),
    ],
)
def test_bytes_that_miss_or_trail_are_refused(change, name, datatype, array):
    body, size = written(name, datatype, array)
    with pytest.raises(BadParameter, match="are announced"):
        read(change(body), size)


@pytest.mark.parametrize(
    "binary", [b"\x05\0\0\0abcd", b"\x03\0\0\0abcd", b"\x03\0\0", b"\xff\xff\xff\xff"]
)
def test_files_whose_lengths_do_not_add_up_are_refused(binary):
    tensor = {
        "name": "image_bytes",
        "datatype": "BYTES",
        "shape": [1],
        "data": None,
        "parameters": {"binary_data_size": len(binary)},
    }
    text = spoilt(tensor)
    with pytest.raises(BadParameter):
        read(text + binary, len(text))


def test_a_header_beyond_the_body_is_refused():
    with pytest.raises(BadParameter, match="Content-Length"):
        read(spoilt(), len(spoilt()) + 1)


def test_no_images_and_too_many_are_refused():
    for body, size in [(b"", 0), (b"", None), (spoilt({"shape": [0, SIDE, SIDE, 3], "data": []}), None)]:
        with pytest.raises(NoImages):
            read(body, size)
    with pytest.raises(TooManyImages):
        read(*written("image_bytes", "BYTES", np.array([b"x"] * (MAX_IMAGES + 1), object)))
