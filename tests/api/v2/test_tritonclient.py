"""The service as tritonclient sees it, over a real socket."""

import asyncio
from contextlib import closing, contextmanager

import numpy as np
import pytest
import tritonclient.http as sync
from fakes import LABELS, SIDE, BrokenHead, HeldBackbone, backbone, fake_heads, head, picture
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

COLOURS = {"red": 0, "blue": 2, "green": 1}
FILES = np.array([picture(colour) for colour in COLOURS], object)
SHAPE = (len(COLOURS), SIDE, SIDE, 3)


def pixels():
    array = np.zeros(SHAPE, np.uint8)
    for image, channel in enumerate(COLOURS.values()):
        array[image, ..., channel] = 255
    return array


def tensor(array, is_binary=True):
    """An input that holds pixels, or files."""
    name, datatype = ("pixels", "UINT8") if array.dtype == np.uint8 else ("image_bytes", "BYTES")
    given = sync.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=is_binary)
    return given


def wanted(**how):
    return [sync.InferRequestedOutput("probabilities", **how)]


def likeliest(result):
    return [LABELS[index] for index in result.as_numpy("probabilities").argmax(axis=1)]


@contextmanager
def triton(client):
    """tritonclient on the server of an httpx client."""
    with closing(sync.InferenceServerClient(client.base_url.netloc.decode())) as other:
        yield other


@contextmanager
def refused(status, told):
    with pytest.raises(InferenceServerException, match=told) as caught:
        yield
    assert caught.value.status() == str(status)


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("is_binary", [True, False])
def test_pixels_are_answered_in_their_order(client, is_binary, compression):
    with triton(client) as other:
        result = other.infer(
            "gap",
            [tensor(pixels(), is_binary)],
            outputs=wanted(binary_data=is_binary),
            request_compression_algorithm=compression,
            response_compression_algorithm=compression,
        )
    assert likeliest(result) == list(COLOURS)


def test_files_are_answered_in_their_order(client):
    with triton(client) as other:
        result = other.infer("flatten", [tensor(FILES)], model_version="1", request_id="mine")
    assert likeliest(result) == list(COLOURS)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("flatten", "1", "mine")


def test_files_and_pixels_of_one_picture_get_the_same_bits(client):
    with triton(client) as other:
        by_file, by_pixels = (
            other.infer("gap", [tensor(array)]).as_numpy("probabilities") for array in (FILES, pixels())
        )
    np.testing.assert_array_equal(by_file, by_pixels)


@pytest.mark.parametrize("is_binary", [True, False])
def test_classes_come_as_value_index_and_label(client, is_binary):
    with triton(client) as other:
        result = other.infer(
            "gap", [tensor(FILES)], outputs=wanted(binary_data=is_binary, class_count=1)
        )
    [red, *_] = result.as_numpy("probabilities")[:, 0]
    assert (red.decode() if is_binary else red) == "1.0:0:red"


def test_an_answer_may_come_later(client):
    with triton(client) as other:
        result = other.async_infer("gap", [tensor(FILES)]).get_result(timeout=20)
    assert likeliest(result) == list(COLOURS)


def test_the_asynchronous_client_gets_the_same(client):
    async def ask():
        async with aio.InferenceServerClient(client.base_url.netloc.decode()) as other:
            assert await other.is_server_live()
            assert await other.is_model_ready("gap", "1")
            metadata = await other.get_model_metadata("gap")
            result = await other.infer("gap", [tensor(FILES)], request_compression_algorithm="gzip")
            with refused(404, "no head named"):
                await other.infer("nope", [tensor(FILES)])
            return metadata, result

    metadata, result = asyncio.run(ask())
    assert metadata["name"] == "gap"
    assert likeliest(result) == list(COLOURS)


def test_it_says_what_it_is_and_what_a_head_takes(client):
    with triton(client) as other:
        server, model = other.get_server_metadata(), other.get_model_metadata("gap", "1")
    assert server["name"] == "resnet-heads"
    assert server["extensions"] == ["binary_tensor_data", "classification"]
    assert (model["versions"], model["platform"]) == (["1"], "openvino")
    takes = {(one["name"], one["datatype"], *one["shape"]) for one in model["inputs"]}
    assert takes == {("pixels", "UINT8", -1, SIDE, SIDE, 3), ("image_bytes", "BYTES", -1)}
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]


def test_it_is_live_before_it_is_ready(connect):
    client = connect(fake_heads(failed={"gap": {1: "damaged"}}))
    with triton(client) as other:
        assert other.is_server_live()
        assert not other.is_server_ready()
        assert not other.is_model_ready("gap")
        with refused(503, "damaged"):
            other.infer("gap", [tensor(FILES)])


def test_a_head_is_ready_where_it_is_loaded(client):
    with triton(client) as other:
        assert other.is_server_ready()
        ready = [other.is_model_ready(*of) for of in (("gap",), ("gap", "1"), ("gap", "2"), ("nope",))]
    assert ready == [True, True, False, False]


@pytest.mark.parametrize(
    ("array", "status", "told"),
    [
        (np.zeros((1, SIDE, SIDE + 1, 3), np.uint8), 400, "is not the UINT8 of shape"),
        (np.zeros((0, SIDE, SIDE, 3), np.uint8), 400, "no image"),
        (np.zeros((5, SIDE, SIDE, 3), np.uint8), 413, "5 images"),
        (np.array([picture("red"), b"no picture"], object), 400, "Image 1"),
        (np.array([picture("red", (101, 100))], object), 413, "pixels"),
        (np.array([bytes(10_000)], object), 413, "body"),
    ],
)
def test_what_cannot_be_answered_raises_with_the_reason(connect, array, status, told):
    client = connect(max_images_per_request=4, max_image_pixels=10_000, max_body_bytes=9_000)
    with triton(client) as other, refused(status, told):
        other.infer("gap", [tensor(array)])


@pytest.mark.parametrize(
    ("name", "version", "status", "told"),
    [("nope", "", 404, "no head named"), ("gap", "2", 404, "Version 2"), ("gap", "one", 400, "version")],
)
def test_an_unknown_head_or_version_raises(client, name, version, status, told):
    with triton(client) as other, refused(status, told):
        other.infer(name, [tensor(FILES)], model_version=version)


def test_two_inputs_or_two_outputs_raise(client):
    with triton(client) as other:
        with refused(400, "inputs"):
            other.infer("gap", [tensor(FILES), tensor(pixels())])
        with refused(400, "outputs"):
            other.infer("gap", [tensor(FILES)], outputs=wanted() * 2)


def test_a_key_is_needed_for_all_but_health(connect):
    client = connect(api_keys="right")
    with triton(client) as other:
        assert other.is_server_live()
        assert other.is_server_ready()
        for ask in (
            other.get_server_metadata,
            lambda: other.get_model_metadata("gap"),
            lambda: other.infer("gap", [tensor(FILES)]),
        ):
            with refused(401, "key"):
                ask()
        key = {"Authorization": "Bearer right"}
        assert likeliest(other.infer("gap", [tensor(FILES)], headers=key)) == list(COLOURS)


@pytest.mark.parametrize("how", [{"timeout": 200_000}, {"headers": {"X-Request-Timeout-Ms": "200"}}])
def test_a_deadline_that_passes_is_504(connect, how):
    network = HeldBackbone()
    client = connect(fake_heads(head("gap", on=backbone(network))))
    with triton(client) as other, refused(504, r"0\.2 seconds"):
        other.infer("gap", [tensor(FILES)], **how)
    network.release.set()


def test_a_failing_engine_is_500(connect):
    client = connect(fake_heads(head("gap", BrokenHead())))
    with triton(client) as other, refused(500, "engine failed"):
        other.infer("gap", [tensor(pixels())])
