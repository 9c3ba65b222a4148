"""Good pictures to start from: every format with every feature that its decoder has code for."""

import functools
from pathlib import Path

from image_files import encoded, png, rows_chunk, tiff
from PIL import Image, ImageCms

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "grocery10" / "test"


def _exif() -> Image.Exif:
    block = Image.Exif()
    block[0x0112], block[0x010E] = 6, "what a camera says of itself"
    block.get_ifd(0x8825)[1] = "N"
    return block


def _bmp_rle() -> bytes:
    data = bytearray(encoded(Image.new("P", (24, 16)), "BMP"))
    data[30:34] = (1).to_bytes(4, "little")
    return bytes(data)


def _interlaced() -> bytes:
    """Adam7, of one colour: Pillow writes none, and rows of zeros need no filter in any pass."""
    passes = (
        (0, 8, 0, 8),
        (4, 8, 0, 8),
        (0, 4, 4, 8),
        (2, 4, 0, 4),
        (0, 2, 2, 4),
        (1, 2, 0, 2),
        (0, 1, 1, 2),
    )
    rows = sum(len(range(y, 16, down)) * (1 + len(range(x, 16, right))) for x, right, y, down in passes)
    return png(16, 16, rows_chunk(bytes(rows)), colour=0, interlace=1)


@functools.cache
def pictures() -> dict[str, bytes]:
    """Files by what is special about them. Real photographs are among them where they are at hand."""
    noise = Image.effect_noise((96, 64), 60)
    plain, grey = noise.convert("RGB").resize((61, 43)), noise.resize((40, 30))
    palette = plain.quantize(16)
    frames = {"save_all": True, "append_images": [plain.rotate(90), plain.rotate(180)]}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = {
        "jpeg": encoded(plain, "JPEG"),
        "jpeg progressive": encoded(plain, "JPEG", progressive=True),
        "jpeg exif": encoded(plain, "JPEG", exif=_exif(), icc_profile=profile, comment=b"hello"),
        "jpeg cmyk": encoded(plain.convert("CMYK"), "JPEG", restart_marker_rows=1),
        "jpeg grey 4:2:0": encoded(grey, "JPEG", subsampling=2),
        "png": encoded(plain, "PNG", exif=_exif(), icc_profile=profile),
        "png palette": encoded(palette, "PNG", transparency=bytes(range(16))),
        "png 16 bits": encoded(grey.convert("I;16"), "PNG"),
        "png alpha": encoded(plain.convert("RGBA"), "PNG"),
        "png bits": encoded(grey.convert("1"), "PNG"),
        "png interlaced": _interlaced(),
        "png animated": encoded(plain, "PNG", **frames),
        "webp": encoded(plain, "WEBP", exif=_exif(), icc_profile=profile),
        "webp lossless": encoded(plain.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": encoded(plain, "WEBP", **frames),
        "gif": encoded(palette, "GIF", transparency=3, comment=b"hello"),
        "gif animated": encoded(palette, "GIF", disposal=2, duration=20, loop=0, **frames),
        "bmp": encoded(plain, "BMP"),
        "bmp palette": encoded(palette, "BMP"),
        "bmp run-length": _bmp_rle(),
        "tiff": encoded(plain, "TIFF", exif=_exif()),
        "tiff strips": encoded(plain, "TIFF", compression="tiff_lzw", strip_size=600),
        "tiff deflate": encoded(grey.convert("I;16"), "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": encoded(plain, "TIFF", compression="jpeg"),
        "tiff fax": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "tiff pages": encoded(plain, "TIFF", **frames),
        "tiff big-endian": tiff(4, 2, bytes(range(8)), order=">"),
    }
    found = sorted(PHOTOGRAPHS.rglob("*.jpg"), key=lambda path: path.stat().st_size)[:4]
    return made | {f"photograph {number}": path.read_bytes() for number, path in enumerate(found)}
