import gzip
import tracemalloc
import zlib

import pytest
from fakes import picture

from service.api.body import decompress
from service.errors import BadParameter, BodyTooLarge

RED = picture("red")
COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_compressed_body_is_answered_as_the_body_itself(client, encoding):
    headers = {"Content-Encoding": encoding.upper()}
    response = client.post("/predict", content=COMPRESS[encoding](RED), headers=headers)
    assert response.json()["results"] == client.post("/predict", content=RED).json()["results"]


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_limit_is_on_what_comes_out(encoding):
    body = COMPRESS[encoding](bytes(1000))
    assert decompress(body, encoding, 1000) == bytes(1000)
    with pytest.raises(BodyTooLarge):
        decompress(body, encoding, 999)


def test_a_bomb_is_refused_without_being_inflated():
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(BodyTooLarge):
        decompress(bomb, "gzip", 100_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


def test_a_bomb_is_413_on_every_route(connect):
    bomb = gzip.compress(bytes(50_000_000))
    client = connect(max_body_bytes=100_000)
    assert len(bomb) < 100_000
    headers = {"Content-Encoding": "gzip"}
    assert client.post("/predict", content=bomb, headers=headers).status_code == 413
    assert client.post("/v2/models/gap/infer", content=bomb, headers=headers).status_code == 413


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("spoil", [lambda _: b"", lambda _: RED, lambda b: b[:-1], lambda b: b + b"x"])
def test_what_is_not_one_whole_stream_is_refused(client, encoding, spoil):
    body = spoil(COMPRESS[encoding](RED))
    with pytest.raises(BadParameter):
        decompress(body, encoding, 10**6)
    response = client.post("/predict", content=body, headers={"Content-Encoding": encoding})
    assert response.status_code == 422


def test_another_encoding_is_refused_by_name(client):
    response = client.post("/predict", content=RED, headers={"Content-Encoding": "br"})
    assert (response.status_code, "'br'" in response.json()["error"]) == (422, True)
