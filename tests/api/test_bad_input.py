"""Every bad input that the issue names, and the status it gets: never a 5xx, never a lost neighbour."""

import base64

import pytest
from fakes import fake_heads, picture
from image_files import chunk, encoded, png
from PIL import Image

RED = picture("red")


def jpeg(size=(640, 480), mode="RGB", **options):
    return encoded(Image.effect_noise(size, 80).convert(mode), "JPEG", **options)


def huge_png(side):
    """A valid PNG header of side x side, 1 bit grey, and 100 KB of compressed zeros."""
    return png(side, side, chunk(b"IDAT", bytes(100_000)), depth=1, colour=0)


def gif():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def transparent_palette():
    image = Image.new("RGB", (20, 20), (255, 0, 0)).quantize(4)
    return encoded(image, transparency=0)


def exif_rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg((40, 20), exif=exif)


NOT_IMAGES = {
    "empty body": b"",
    "text": b"this is not a picture",
    "text as JPEG": b"\xff\xd8\xff" + b"this is not a picture" * 50,
    "truncated JPEG": jpeg()[:20_000],
    "truncated PNG": encoded(Image.effect_noise((200, 200), 80))[:5_000],
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}
IMAGES = {
    "GIF": gif(),
    "CMYK JPEG": jpeg(mode="CMYK"),
    "16-bit PNG": encoded(Image.new("I;16", (20, 20), 30_000)),
    "palette PNG with transparency": transparent_palette(),
    "EXIF-rotated JPEG": exif_rotated(),
    "1x1": encoded(Image.new("RGB", (1, 1), (255, 0, 0))),
    "4000x20": jpeg((4000, 20)),
}


@pytest.mark.parametrize("body", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_what_is_no_image_is_422(client, body):
    response = client.post("/predict", content=body)
    assert response.status_code == 422
    assert response.json()["detail"]


@pytest.mark.parametrize("body", IMAGES.values(), ids=IMAGES)
def test_unusual_images_are_answered(client, body):
    assert client.post("/predict", content=body).status_code == 200


def test_a_png_of_100_kb_and_2500_million_pixels_is_413(client):
    body = huge_png(50_000)
    assert len(body) < 110_000
    response = client.post("/predict", content=body)
    assert response.status_code == 413
    assert response.json()["image"] == 0


def test_many_small_files_of_large_pictures_are_413_and_the_one_too_many_is_named(connect):
    client = connect(decode_threads=1)
    large = encoded(Image.new("1", (4000, 4000)))
    assert len(large) < 10_000
    assert client.post("/predict", content=large).status_code == 200
    answer = client.post("/predict", files=[("file", large)] * 32)
    assert (answer.status_code, answer.json()["image"]) == (413, 1)
    assert client.post("/predict", files=[("file", RED)] * 32).status_code == 200


def test_the_bad_image_of_several_is_named(client):
    files = [("file", RED), ("file", RED), ("file", b"broken")]
    response = client.post("/predict", files=files)
    assert (response.status_code, response.json()["image"]) == (422, 2)


def test_an_upload_of_40_mb_is_413_by_its_declared_length(client):
    response = client.post("/predict", content=bytes(40 * 2**20))
    assert (response.status_code, response.headers["connection"]) == (413, "close")


def test_an_upload_of_40_mb_without_a_length_is_413_as_soon_as_it_is_too_long(client):
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(40):
            sent += 2**20
            yield bytes(2**20)

    response = client.post("/predict", content=chunks())
    assert "content-length" not in response.request.headers
    assert response.status_code == 413


def as_json(*images, **more):
    return {"images": [base64.b64encode(image).decode() for image in images]} | more


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"images": ["not base64!"]}, 422),
        ({"images": ["data:image/png;base64"]}, 422),
        ({"images": []}, 422),
        ({}, 422),
        ([], 422),
        ({"images": "a string"}, 422),
        ({"images": [5]}, 422),
        (as_json(*[RED] * 10_000), 413),
        (as_json(RED, top_k=0), 422),
        (as_json(RED, head=5), 422),
        (as_json(RED, heed="gap"), 422),
    ],
)
def test_bad_json_bodies(client, body, status):
    response = client.post("/predict", json=body)
    assert response.status_code == status
    assert "\n" not in response.json()["detail"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b""])
def test_what_is_not_json_is_422(client, body):
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422


def test_bad_base64_names_its_image(client):
    answer = client.post("/predict", json={"images": [base64.b64encode(RED).decode(), "%%%"]}).json()
    assert answer["image"] == 1


def test_a_multipart_body_without_a_file_is_422(client):
    response = client.post("/predict", data={"head": "gap"}, files={"other": b"x"})
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nab',
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: nothing\r\n\r\nab\r\n--x--\r\n",
        ),
        ("multipart/form-data; boundary=x", b""),
    ],
)
def test_broken_multipart_is_422(client, content_type, body):
    response = client.post("/predict", content=body, headers={"content-type": content_type})
    assert response.status_code == 422


def test_more_images_than_allowed_are_413(connect):
    client = connect(max_images_per_request=2)
    files = [("file", RED)] * 3
    assert client.post("/predict", files=files).status_code == 413
    assert client.post("/predict", files=files[:2]).status_code == 200


def test_an_unknown_head_is_404_and_names_those_there_are(client):
    response = client.post("/predict?head=nope", content=RED)
    assert response.status_code == 404
    assert "flatten, gap" in response.json()["detail"]
    assert client.post("/compare?heads=gap,nope", content=RED).status_code == 404


@pytest.mark.parametrize("top_k", ["0", "-1", "100000", "five", "1.5", ""])
def test_a_bad_top_k_is_422(client, top_k):
    assert client.post(f"/predict?top_k={top_k}", content=RED).status_code == 422
    assert client.post("/predict", files={"file": RED}, data={"top_k": top_k}).status_code == 422


@pytest.mark.parametrize("timeout", ["0", "-5", "soon", "1e3"])
def test_a_bad_deadline_is_422(client, timeout):
    assert (
        client.post("/predict", content=RED, headers={"X-Request-Timeout-Ms": timeout}).status_code
        == 422
    )


def test_a_head_without_a_good_version_is_503_with_its_reason(connect):
    client = connect(fake_heads(failed={"gap": {1: "model.keras is damaged."}}))
    client.get("/heads")
    response = client.post("/predict", content=RED)
    assert response.status_code == 503
    assert "model.keras is damaged" in response.json()["detail"]


def test_a_good_request_after_all_that_is_answered(client):
    for body in NOT_IMAGES.values():
        client.post("/predict", content=body)
    assert client.post("/predict", content=RED).json()["results"][0]["predictions"][0]["label"] == "red"


@pytest.mark.parametrize("field", ["offset", "head"])
def test_a_shift_of_nothing_is_422(client, field):
    """Found by schemathesis: no offsets divided by zero, and no heads took the largest of none."""
    response = client.post("/shift", json=as_json(RED, **{field: []}))
    assert response.status_code == 422
    assert field in response.json()["detail"]


def test_a_wrong_method_names_every_right_one(client):
    """Found by schemathesis: the framework names those of the first route only."""
    assert client.delete("/benchmark").headers["allow"] == "GET, POST"
    assert client.post("/").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("body", [{"seconds": True}, {"batch_sizes": [True]}, {"seconds": "2"}])
def test_what_to_measure_is_told_in_numbers(client, body):
    assert client.post("/benchmark", json=body).status_code == 422
