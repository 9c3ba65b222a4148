"""Bodies of a megabyte that mean to cost much more: bombs, loops, lies, and very many of something."""

import base64
import functools
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

from fakes import picture
from fuzz.pictures import pictures
from fuzz.requests import Request
from image_files import chunk, encoded, jpeg_of, png, rows_chunk, tiff
from PIL import Image

from service.api.body import SMALL

MEGABYTE = 10**6
SIDE = 5000  # squared, the most pixels that few bytes may mean
TEXT = f'"{"x" * 3000}"'
FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'
RED = picture("red")
GREY = bytes(8)
FILE = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def with_header(request: Request, name: bytes, value: bytes) -> Request:
    return replace(request, headers=(*request.headers, (name, value)))


IMAGE = Request("/predict")
ARCHIVE = with_header(IMAGE, b"content-type", b"application/gzip")
FORM = with_header(IMAGE, b"content-type", b"multipart/form-data; boundary=x")
JSON = with_header(IMAGE, b"content-type", b"application/json")
V2 = Request("/v2/models/{head}/infer", path="/v2/models/gap/infer")
V1 = Request("/v1/models/{head}:predict", path="/v1/models/gap:predict")
GZIP = with_header(IMAGE, b"content-encoding", b"gzip")
DEFLATE, JSON_IN_DEFLATE, V2_IN_DEFLATE = (
    with_header(request, b"content-encoding", b"deflate") for request in (IMAGE, JSON, V2)
)


def packed(piece: bytes, times: int) -> bytes:
    """A zlib stream of a piece, repeated."""
    stream = zlib.compressobj(9)
    return b"".join(stream.compress(piece) for _ in range(times)) + stream.flush()


@functools.cache
def gigabyte() -> bytes:
    return packed(bytes(2**20), 900)


def deep_png() -> bytes:
    rows = packed(bytes(1 + 8 * SIDE), SIDE)
    return png(SIDE, SIDE, chunk(b"IDAT", rows), depth=16, colour=6)


def filtered_png() -> bytes:
    """Each byte is predicted from three others."""
    return png(SIDE, SIDE, chunk(b"IDAT", packed(b"\4" + bytes(3 * SIDE), SIDE)))


def texts() -> bytes:
    return chunk(b"iTXt", b"a\0\1\0\0\0" + packed(bytes(10**6), 1)) * 500


def small_png(*chunks: bytes) -> bytes:
    return png(8, 8, *chunks, rows_chunk(bytes(8 * 25)))


def jpeg(marker: bytes, payload: bytes) -> bytes:
    """A good JPEG with a megabyte of one segment before it."""
    good = pictures()["jpeg"]
    segment = marker + struct.pack(">H", 2 + len(payload)) + payload
    return good[:2] + segment * (MEGABYTE // len(segment)) + good[2:]


def jpeg_of_passes() -> bytes:
    """Progressive, of four colours, making as many passes over its 25 million pixels as are allowed."""
    data = encoded(Image.new("CMYK", (SIDE, SIDE), (9, 9, 9, 9)), "JPEG", quality=30, progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (20 - data.count(b"\xff\xda")) + data[-2:]


def tiff_of_entries() -> bytes:
    entries = [struct.pack("<HHII", 40_000 + number % 20_000, 3, 1, 0) for number in range(65_000)]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)


def gif(extension: bytes) -> bytes:
    """A good GIF with an extension before its picture."""
    good = encoded(Image.new("P", (8, 8)), "GIF")
    at = good.index(b",", 10)
    return good[:at] + extension + good[at:]


def gif_that_lies() -> bytes:
    return gif(b"").replace(b"\x08\0\x08\0", b"\xe8\xfd\xe8\xfd")


def webp_that_lies() -> bytes:
    """Its canvas has 16 million times 16 million pixels, its frame 8 by 8."""
    frame = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6 + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


@functools.cache
def gzipped_zeros() -> bytes:
    file = io.BytesIO()
    stream = zlib.compressobj(9, wbits=31)
    for _ in range(60):
        file.write(stream.compress(bytes(2**24)))
    file.write(stream.flush())
    return file.getvalue()


def form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


def images(**fields: object) -> bytes:
    return json.dumps({"images": [base64.b64encode(RED).decode()]} | fields).encode()


def long_number() -> bytes:
    return images()[:-1] + b',"top_k":' + b"9" * 990_000 + b"}"


def flat(kind: str, mode="RGB", **options) -> bytes:
    return encoded(
        Image.new(mode, (SIDE, SIDE), 1 if mode == "P" else (1,) * len(mode)), kind, **options
    )


def many(item: str, count: int, first: str = "0") -> str:
    """A list of these items behind the first."""
    return f"[{','.join([first, *[item] * count])}]"


def tensor(data: str, shape: str = "[1,8,8,3]") -> bytes:
    """A request of /infer with this data, in as few bytes as can be."""
    given = f'"name":"pixels","datatype":"UINT8","shape":{shape},"data":{data}'
    return f'{{"inputs":[{{{given}}}]}}'.encode()


def instances(data: str) -> bytes:
    return f'{{"instances":{data}}}'.encode()


def packed_lists(start: bytes) -> bytes:
    """As many lists as may come out of a small body, in JSON that breaks off."""
    return zlib.compress(start + b"[]," * (SMALL // 3 - len(start)))


Bomb = tuple[Request, int, Callable[[], bytes]]
BOMBS: dict[str, Bomb] = {  # request without its body, status, body
    "png of 2,500 million pixels": (IMAGE, 413, lambda: png(50_000, 50_000, chunk(b"IDAT", bytes(99)))),
    "png of a gigabyte behind 8 x 8": (IMAGE, 200, lambda: png(8, 8, chunk(b"IDAT", gigabyte()))),
    "png of 25 million deep pixels": (IMAGE, 200, deep_png),
    "png of the slowest filter": (IMAGE, 200, filtered_png),
    "png in 65,000 pieces": (IMAGE, 422, lambda: png(SIDE, SIDE, *[chunk(b"IDAT", b"x")] * 65_000)),
    "png of 80,000 chunks": (IMAGE, 200, lambda: small_png(chunk(b"teSt", b"") * 80_000)),
    "png of text by ratio": (IMAGE, 422, lambda: small_png(chunk(b"zTXt", b"a\0\0" + gigabyte()))),
    "png of many texts": (IMAGE, 422, lambda: small_png(texts())),
    "png of a profile by ratio": (IMAGE, 422, lambda: small_png(chunk(b"iCCP", b"a\0\0" + gigabyte()))),
    "gif of 25 million pixels": (IMAGE, 200, lambda: flat("GIF", "P")),
    "gif of 4,225 million pixels": (IMAGE, 413, gif_that_lies),
    "gif of 200,000 comments": (IMAGE, 200, lambda: gif(b"!\xfe\1a\0" * 190_000)),
    "gif of a comment in 500,000 parts": (IMAGE, 200, lambda: gif(b"!\xfe" + b"\1a" * 490_000 + b"\0")),
    "webp of 25 million pixels": (IMAGE, 200, lambda: flat("WEBP", quality=1, method=0)),
    "webp of 25 million clear pixels": (IMAGE, 200, lambda: flat("WEBP", "RGBA", quality=1, method=0)),
    "webp that lies": (IMAGE, 413, webp_that_lies),
    "jpeg that lies": (IMAGE, 413, lambda: jpeg_of(65_535, 65_535)),
    "jpeg of many passes": (IMAGE, 200, jpeg_of_passes),
    "jpeg of 250,000 comments": (IMAGE, 200, lambda: jpeg(b"\xff\xfe", b"")),
    "jpeg of fill bytes": (IMAGE, 200, lambda: jpeg(b"\xff" * 60_000 + b"\xff\xfe", b"")),
    "jpeg of exif blocks": (IMAGE, 200, lambda: jpeg(b"\xff\xe1", b"Exif\0\0")),
    "tiff whose directory follows itself": (IMAGE, 200, lambda: tiff(4, 2, GREY, following=8)),
    "tiff whose directory is below itself": (IMAGE, 200, lambda: tiff(4, 2, GREY, {330: 8, 34665: 8})),
    "tiff of 65,000 entries": (IMAGE, 422, tiff_of_entries),
    "tiff of 25 million odd pixels": (IMAGE, 200, lambda: flat("TIFF", "LAB", compression="tiff_lzw")),
    "gzip of a gigabyte": (ARCHIVE, 422, gzipped_zeros),
    "form of 20,000 parts": (FORM, 422, lambda: form(*[FIELD] * 20_000)),
    "form of 999 files": (FORM, 413, lambda: form(*[FILE + RED] * 999)),
    "form of 160,000 headers": (FORM, 422, lambda: form(b"a: b\r\n" * 160_000 + FILE + RED)),
    "form that almost ends": (FORM, 422, lambda: form(FILE + b"\r\n--" * 240_000)),
    "form that begins late": (FORM, 200, lambda: b"\r\n" * 490_000 + form(FILE + RED)),
    "json of a million brackets": (JSON, 422, lambda: b"[" * MEGABYTE),
    "json of 200,000 objects": (JSON, 422, lambda: b'{"a":' * 200_000),
    "json of 70,000 fields": (JSON, 422, lambda: images(**{f"a{one}": 1 for one in range(70_000)})),
    "json of 300,000 images": (JSON, 413, lambda: images(images=[""] * 240_000)),
    "json of 300,000 numbers": (JSON, 422, lambda: images(images=[1] * 330_000)),
    "json of a number of a million digits": (JSON, 422, long_number),
    "json of a long name": (JSON, 404, lambda: images(head="x" * 990_000)),
    "picture of a gigabyte in gzip": (GZIP, 413, gzipped_zeros),
    "picture of a gigabyte in deflate": (DEFLATE, 413, gigabyte),
    "json of lists in deflate": (JSON_IN_DEFLATE, 422, lambda: packed_lists(b'{"a":[')),
    "v2 of a gigabyte in gzip": (with_header(V2, b"content-encoding", b"gzip"), 413, gzipped_zeros),
    "v2 of a gigabyte in deflate": (V2_IN_DEFLATE, 413, gigabyte),
    "v2 of lists in deflate": (V2_IN_DEFLATE, 400, lambda: packed_lists(tensor("[")[:-4])),
    "v2 of a million brackets": (V2, 400, lambda: tensor("[" * 990_000)),
    "v2 of a huge shape": (V2, 413, lambda: tensor("[1]", f"[{2**62},8,8,3]")),
    "v2 of 300,000 dimensions": (V2, 400, lambda: tensor("[1]", many("1", 330_000))),
    "v2 of 200,000 dimensions that are none": (V2, 400, lambda: tensor("[1]", many('"a"', 200_000))),
    "v2 of 480,000 numbers": (V2, 400, lambda: tensor(many("0", 480_000))),
    "v2 of 30,000 long numbers": (V2, 400, lambda: tensor(many("9" * 30, 30_000))),
    "v2 of 100,000 nested lists": (V2, 400, lambda: tensor(many("[[[0]]]", 110_000))),
    "v2 of a long text among numbers": (V2, 400, lambda: tensor(many("0", 200_000, TEXT * 100))),
    "v2 of a text among numbers": (V2, 400, lambda: tensor(many("0", 400_000, TEXT))),
    "v1 of a million brackets": (V1, 400, lambda: b'{"instances":' + b"[" * 990_000),
    "v1 of 330,000 lists": (V1, 413, lambda: instances(many("[]", 330_000))),
    "v1 of 480,000 numbers": (V1, 400, lambda: instances(f"[{many('0', 480_000)}]")),
    "v1 of 110,000 nested lists": (V1, 400, lambda: instances(f"[{many('[[[0]]]', 110_000)}]")),
    "v1 of a text among numbers": (V1, 400, lambda: instances(f"[{many('0', 400_000, TEXT)}]")),
    "json of lines for a name": (JSON, 422, lambda: images(**{"\n/a/b" * 150_000: 1})),
}  # fmt: skip
