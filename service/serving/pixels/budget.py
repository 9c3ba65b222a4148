"""Bounds the pixels of one request's images together, against small files that decode to many pixels."""

from collections.abc import Sequence

from service.errors import ImageTooLarge

# Photographs have 1 to 10 pixels for each byte of their files, but one megabyte can hold 32 images of
# 50 million pixels, which take half a minute to decode. 25 million of the slowest kind take 0.7 s.
SMALL_PIXELS = 25_000_000
PIXELS_PER_BYTE = 24
MAX_LARGEST = 4


class PixelBudget:
    """The pixels that one request may still decode. Thread-safe."""

    def __init__(self, images: Sequence[object], max_image_pixels: int) -> None:
        # Pictures that are not bytes are pixels already.
        size = sum(len(image) for image in images if isinstance(image, bytes))
        fair = max(SMALL_PIXELS, PIXELS_PER_BYTE * size)
        self._limit = min(fair, MAX_LARGEST * max_image_pixels)
        self._pixels = [0] * len(images)

    def spend(self, index: int, pixels: int) -> None:
        """Counts the pixels of an image, only once if it is decoded again. Raises ImageTooLarge."""
        self._pixels[index] = pixels
        together = sum(self._pixels)
        if together > self._limit:
            raise ImageTooLarge(
                f"the request's images up to this one have {together} pixels together, more than the "
                f"{self._limit} allowed for a request of this size."
            )
