import functools
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, jpeg_of, png, rows_chunk, tiff
from PIL import Image

from service.errors import ImageTooLarge, NotAnImage
from service.serving.pixels.decode import decode
from service.serving.pixels.resize import RESIZE
from service.store.card import Input

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MAX_PIXELS = 50_000_000
PHOTOS = Path(__file__).parents[4] / "shared" / "data" / "grocery10" / "test"

TARGETS = [(224, 224), (160, 192)]
PICTURES = {  # width and height, and by hand the covering size of each target
    (640, 480): [(341, 256), (244, 183)],
    (480, 640): [(256, 341), (219, 292)],
    (348, 348): [(256, 256), (219, 219)],
    (1280, 720): [(455, 256), (325, 183)],
    (100, 37): [(691, 256), (494, 183)],
    (150, 201): [(256, 343), (219, 293)],
    (224, 224): [(256, 256), (219, 219)],
}


def spec(resize="load_img", target=(224, 224), scale="exact"):
    return Input(height=target[0], width=target[1], decode=scale, resize=resize, preprocessing="caffe")


@functools.cache
def picture(width, height):
    """What photographs have: smooth light, hard edges, fine texture and noise."""
    y, x = np.mgrid[:height, :width]
    u, v = x / width, y / height
    pixels = np.stack([255 * u, 255 * v, 128 + 90 * np.sin(x / 7) * np.cos(y / 11)], axis=-1)
    pixels[(u - 0.6) ** 2 + (v - 0.4) ** 2 < 0.04] = 230, 40, 60
    pixels[(abs(u - 0.2) < 0.1) & (abs(v - 0.7) < 0.2)] = 20, 90, 200
    noise = np.random.default_rng(width).normal(0, 6, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def unresized(data, height, width):
    return decode(data, spec(target=(height, width)), MAX_PIXELS)


def levels(pixels, expected):
    return np.abs(np.asarray(pixels, np.float64) - np.asarray(expected, np.float64))


def refusal(error, data, max_pixels=MAX_PIXELS):
    """The reason, which must be fit to show, and found before much work was done."""
    began_s = time.thread_time()
    with pytest.raises(error) as caught:
        decode(data, spec(), max_pixels)
    assert time.thread_time() - began_s < 1
    assert not any(word in caught.value.reason for word in ("<", "PIL", "Pillow", "/", "Error"))
    return caught.value.reason


# Against Keras and TensorFlow


@pytest.fixture(scope="module", params=["png", "jpeg", "photographs"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param != "photographs":
        for size in PICTURES:
            (folder / f"{size}.{request.param}").write_bytes(encoded(picture(*size), request.param))
    elif PHOTOS.is_dir():
        for photo in [min(label.iterdir()) for label in PHOTOS.iterdir()]:
            (folder / photo.name).write_bytes(photo.read_bytes())
    else:
        pytest.skip(f"no photographs in {PHOTOS}")
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_load_img_is_what_keras_loads(folder, target):
    import keras

    for file in folder.iterdir():
        expected = np.asarray(keras.utils.load_img(file, target_size=target))
        assert np.array_equal(decode(file.read_bytes(), spec("load_img", target), MAX_PIXELS), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_image_dataset_is_what_keras_puts_in_a_dataset(folder, target):
    """PNG: to the rounding. JPEG: TensorFlow's decoder differs by up to 6 levels, 1 on average."""
    import keras

    batch = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=target, shuffle=False, batch_size=99, verbose=False
    )
    expected = next(iter(batch)).numpy()
    files = sorted(folder.iterdir())
    pixels = [decode(file.read_bytes(), spec("image_dataset", target), MAX_PIXELS) for file in files]
    difference = levels(pixels, expected)
    assert difference.max() <= (0.51 if files[0].suffix == ".png" else 6.5)
    assert difference.mean() <= (0.26 if files[0].suffix == ".png" else 1.1)


@pytest.mark.parametrize("target", TARGETS)
def test_bilinear_is_tensorflows_antialiased_resize(target):
    import tensorflow as tf

    for size in PICTURES:
        expected = tf.image.resize(picture(*size), target, antialias=True)
        pixels = decode(encoded(picture(*size)), spec("bilinear", target), MAX_PIXELS)
        assert levels(pixels, expected).max() <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_center_crop_is_keras_resize_then_crop(target):
    import keras

    for size, covering in PICTURES.items():
        width, height = covering[TARGETS.index(target)]
        resized = keras.ops.image.resize(
            picture(*size).astype("float32"), (height, width), antialias=True
        )
        expected = keras.layers.CenterCrop(*target)(resized)
        pixels = decode(encoded(picture(*size)), spec("center_crop", target), MAX_PIXELS)
        assert levels(pixels, expected).max() <= 1.01


def test_the_modes_give_different_pixels():
    data = encoded(picture(640, 480), "JPEG")
    pixels = {resize: decode(data, spec(resize), MAX_PIXELS) for resize in RESIZE}
    for one, other in [
        ("bilinear", "image_dataset"),
        ("bilinear", "load_img"),
        ("load_img", "image_dataset"),
    ]:
        assert levels(pixels[one], pixels[other]).mean() > 1
        assert levels(pixels[one], pixels["center_crop"]).mean() > 10


def test_no_tensorflow_is_imported():
    code = "import sys, service.serving.pixels.decode; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Scaled decoding


@pytest.mark.parametrize("size", [(1280, 960), (640, 480)])
@pytest.mark.parametrize("resize", ["bilinear", "image_dataset", "load_img"])
def test_scaled_decoding_reads_a_jpeg_at_320_by_240(size, resize):
    data = encoded(picture(*size), "JPEG", quality=92)
    reduced = Image.open(io.BytesIO(data))
    reduced.draft(None, (320, 240))
    assert reduced.size == (320, 240)
    scaled = decode(data, spec(resize, scale="scaled"), MAX_PIXELS)
    assert np.array_equal(scaled, decode(encoded(reduced), spec(resize), MAX_PIXELS))
    assert 0 < levels(scaled, decode(data, spec(resize), MAX_PIXELS)).mean() < 5


@pytest.mark.parametrize("resize", RESIZE)
def test_scaled_decoding_leaves_alone_what_it_cannot_halve(resize):
    for data in (
        encoded(picture(348, 348), "JPEG"),
        encoded(picture(640, 480), "PNG"),
        encoded(picture(640, 480), "WEBP"),
    ):
        scaled = decode(data, spec(resize, scale="scaled"), MAX_PIXELS)
        assert np.array_equal(scaled, decode(data, spec(resize), MAX_PIXELS))


@pytest.mark.parametrize(("size", "is_reduced"), [((512, 512), True), ((511, 511), False)])
def test_scaled_decoding_keeps_the_short_side_that_center_crop_needs(size, is_reduced):
    data = encoded(picture(*size), "JPEG")
    scaled = decode(data, spec("center_crop", scale="scaled"), MAX_PIXELS)
    assert is_reduced != np.array_equal(scaled, decode(data, spec("center_crop"), MAX_PIXELS))


@pytest.mark.parametrize(("target", "is_reduced"), [((640, 320), True), ((320, 640), False)])
@pytest.mark.parametrize("resize", ["bilinear", "center_crop"])
def test_scaled_decoding_counts_in_the_exif_turn(target, is_reduced, resize):
    """Stored 1600 x 800 and turned by 90 degrees, it is 800 wide and 1600 high."""
    data = encoded(picture(1600, 800), "JPEG", exif=exif(6))
    scaled = decode(data, spec(resize, target, "scaled"), MAX_PIXELS)
    assert is_reduced != np.array_equal(scaled, decode(data, spec(resize, target), MAX_PIXELS))


# EXIF


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


STORED = {  # how a camera held that way stores the upright picture
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("kind", "bound"), [("JPEG", 9), ("PNG", 0), ("TIFF", 0)])
def test_exif_orientation_is_applied(orientation, kind, bound):
    upright = picture(160, 96)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    data = encoded(stored, kind, exif=exif(orientation))
    assert levels(unresized(data, 96, 160), upright).mean() <= bound


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])  # Pillow turns TIFF in any case.
@pytest.mark.parametrize("scale", ["exact", "scaled"])
@pytest.mark.parametrize("resize", ["load_img", "image_dataset", "center_crop"])
def test_an_ignored_exif_orientation_changes_nothing(orientation, kind, scale, resize):
    ignoring = spec(resize, (24, 40), scale).model_copy(update={"exif": "ignored"})
    plain, turned = (encoded(picture(640, 384), kind, exif=e) for e in (b"", exif(orientation)))
    assert np.array_equal(decode(turned, ignoring, MAX_PIXELS), decode(plain, ignoring, MAX_PIXELS))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"?" * 99]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_is_ignored(block, kind):
    plain, broken = (encoded(picture(64, 48), kind, exif=b) for b in (b"", b"Exif\0\0" + block))
    assert np.array_equal(unresized(broken, 48, 64), unresized(plain, 48, 64))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_upright(orientation):
    data = encoded(picture(64, 48), exif=exif(orientation))
    assert np.array_equal(unresized(data, 48, 64), picture(64, 48))


# Colours


def grey_rgb(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=-1)


def test_8_bit_grey_is_repeated():
    assert np.array_equal(unresized(encoded(np.uint8([[0, 7, 255]])), 1, 3), grey_rgb([[0, 7, 255]]))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(kind):
    data = encoded(np.uint16([[0, 255, 256, 0x1234, 0x80FF, 65535]]), kind)
    assert np.array_equal(unresized(data, 1, 6), grey_rgb([[0, 0, 1, 0x12, 0x80, 255]]))


def test_12_bit_grey_keeps_its_high_8_bits():
    data = tiff(2, 1, bytes([0x12, 0x3F, 0xFF]), {258: 12})  # 0x123 and 0xFFF
    assert np.array_equal(unresized(data, 1, 2), grey_rgb([[0x12, 0xFF]]))


def test_16_bit_colour_and_grey_with_alpha_keep_their_high_bytes():
    rgb = png(1, 1, rows_chunk(bytes([0, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC])), depth=16)
    assert unresized(rgb, 1, 1).tolist() == [[[0x12, 0x56, 0x9A]]]
    grey_alpha = png(1, 1, rows_chunk(bytes([0, 0x12, 0x34, 0x56, 0x78])), depth=16, colour=4)
    assert unresized(grey_alpha, 1, 1).tolist() == [[[0x12, 0x12, 0x12]]]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit_is_black_and_white(kind):
    image = Image.fromarray(np.uint8([[0, 255, 255, 0]])).convert("1")
    assert np.array_equal(unresized(encoded(image, kind), 1, 4), grey_rgb([[0, 255, 255, 0]]))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_not_blended(mode, kind):
    opaque = Image.fromarray(picture(32, 24)).convert(mode[:-1])
    image = opaque.copy()
    image.putalpha(7)
    assert np.array_equal(unresized(encoded(image, kind), 24, 32), opaque.convert("RGB"))


def test_premultiplied_grey_is_divided_by_its_alpha():
    data = tiff(2, 1, bytes([50, 128, 60, 255]), {277: 2, 338: 1})
    assert np.array_equal(unresized(data, 1, 2), grey_rgb([[50 * 255 // 128, 60]]))


@pytest.mark.parametrize("transparency", [1, bytes([0, 128, 255])])
def test_a_transparent_palette_keeps_its_colours(transparency):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    image.putdata([0, 1, 2])
    data = encoded(image, transparency=transparency)
    assert unresized(data, 1, 3).tolist() == [[[10, 20, 30], [200, 100, 50], [1, 2, 3]]]


def test_cmyk_jpeg_is_what_keras_loads(tmp_path):
    import keras

    file = tmp_path / "cmyk.jpeg"
    file.write_bytes(encoded(Image.fromarray(picture(320, 240)).convert("CMYK"), "JPEG"))
    expected = np.asarray(keras.utils.load_img(file, target_size=(224, 224)))
    assert np.array_equal(decode(file.read_bytes(), spec(), MAX_PIXELS), expected)
    assert levels(unresized(file.read_bytes(), 240, 320), picture(320, 240)).mean() < 5


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "CMYK"])
def test_colour_spaces_of_tiff_become_rgb(mode):
    colour = Image.new("RGB", (4, 4), (200, 100, 50)).convert(mode)
    assert levels(unresized(encoded(colour, "TIFF"), 4, 4), (200, 100, 50)).max() <= 2


@pytest.mark.parametrize("pixels", [np.float32([[0.5]]), np.int32([[70_000]])])
def test_pixels_without_an_agreed_white_are_refused(pixels):
    assert (
        refusal(NotAnImage, encoded(pixels, "TIFF"))
        == "signed, 32-bit and floating-point pixels are not accepted."
    )


# Formats and frames


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_arrive_unchanged(kind):
    assert np.array_equal(unresized(encoded(picture(33, 21), kind), 21, 33), picture(33, 21))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_counts(kind):
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {"disposal": 2} if kind == "GIF" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert np.array_equal(unresized(data, 8, 8), first)


@pytest.mark.parametrize("size", [(1, 1), (4000, 20), (20, 4000), (65500, 1)])
@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("scale", ["exact", "scaled"])
def test_extreme_shapes_decode(size, resize, scale):
    pixels = decode(
        encoded(Image.new("RGB", size, "teal"), "JPEG"), spec(resize, (96, 160), scale), MAX_PIXELS
    )
    assert (pixels.shape, pixels.dtype) == ((96, 160, 3), np.uint8)
    assert pixels.flags.c_contiguous
    assert levels(pixels, (0, 128, 128)).max() <= 3


# Refusals


@pytest.mark.parametrize(
    "data",
    [
        b"hello, world",
        b"\0" * 1000,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded(picture(32, 32), "ICO"),
        encoded(picture(32, 32), "PPM"),
        encoded(picture(32, 32), "JPEG2000"),
    ],
    ids=["text", "zeros", "svg", "pdf", "eps", "ico", "ppm", "jpeg2000"],
)
def test_other_formats_are_refused(data):
    assert refusal(NotAnImage, data) == "not a JPEG, PNG, WebP, GIF, BMP or TIFF image."


def test_an_empty_body_is_not_an_image():
    assert refusal(NotAnImage, b"") == "the image is empty."


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.99, 0.5, 0.1])
def test_a_truncated_image_is_not_an_image(kind, part):
    data = encoded(picture(320, 240), kind)
    assert refusal(NotAnImage, data[: int(len(data) * part)]) == "the image is broken or truncated."


@pytest.mark.parametrize(
    "signature", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM", b"II*\0"]
)
def test_a_bare_signature_is_not_an_image(signature):
    refusal(NotAnImage, signature)


def gif_of(width, height):
    """A small screen, a large frame to be cleared."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"!\xf9\x04\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return screen + frame + b"\x02\x00;"


def webp_of(width, height):
    frame = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(6) + b"\7\0\0\7\0\0" + bytes(4) + frame
    chunks = [(b"VP8X", b"\2\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(part)) + part for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_of(width, height):
    data = bytearray(encoded(picture(16, 16), "BMP"))
    data[18:26] = struct.pack("<II", width, height)
    return bytes(data)


HUGE = {
    "png": lambda: png(50_000, 50_000, rows_chunk(bytes(100_000_000))),
    "jpeg": lambda: jpeg_of(65_000, 65_000),
    "gif": lambda: gif_of(65_000, 65_000),
    "webp": lambda: webp_of(60_000, 60_000),
    "bmp": lambda: bmp_of(50_000, 50_000),
    "tiff": lambda: tiff(50_000, 50_000, b"?"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_small_file_of_a_huge_picture_is_too_large(kind):
    data = HUGE[kind]()
    assert len(data) < 110_000
    assert "are more than the 50000000 allowed." in refusal(ImageTooLarge, data)


def test_the_limit_itself_is_allowed():
    data = encoded(picture(64, 48))
    assert decode(data, spec(), 64 * 48).shape == (224, 224, 3)
    assert refusal(ImageTooLarge, data, 64 * 48 - 1) == "64 x 48 pixels are more than the 3071 allowed."


def test_the_handmade_headers_open_where_the_picture_is_small():
    """Else the refusals above could come from broken files."""
    assert np.array_equal(unresized(tiff(2, 1, b"\1\2"), 1, 2), grey_rgb([[1, 2]]))
    assert np.array_equal(unresized(webp_of(8, 8), 8, 8), np.zeros((8, 8, 3)))
    assert Image.open(io.BytesIO(gif_of(20, 30))).size == (20, 30)


def test_a_tiled_tiff_is_refused_for_its_tiles_may_be_huge():
    pixels = zlib.compress(bytes(16_000_000))
    tiles = {259: 8, 322: 4000, 323: 4000, 324: 14 + 12 * 12, 325: len(pixels)}
    data = tiff(1, 1, pixels, tiles)
    assert Image.open(io.BytesIO(data)).size == (1, 1)
    assert refusal(NotAnImage, data) == "tiled TIFF images are not accepted."


def test_a_jpeg_of_very_many_passes_is_refused():
    data = encoded(Image.new("L", (1000, 1000), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data, spec(), 1_000_000).shape == (224, 224, 3)
    assert "scans, too many for its size" in refusal(
        NotAnImage, data[:-2] + 1000 * last + data[-2:], 1_000_000
    )


def test_a_run_length_encoded_bmp_is_refused():
    data = bytearray(encoded(Image.new("P", (64, 64)), "BMP"))
    data[30:34] = struct.pack("<I", 1)
    assert refusal(NotAnImage, bytes(data)) == "run-length encoded BMP images are not accepted."
