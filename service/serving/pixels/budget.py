"""How many pixels the images of one request may have together: few bytes must not mean much work."""

from collections.abc import Sequence

from service.errors import ImageTooLarge

# Photographs have 1 to 10 pixels a byte. One megabyte can hold 32 images of 50 million each, half a
# minute of decoding; 25 million pixels of the slowest kind take 0.7 s.
SMALL_PIXELS = 25_000_000
PIXELS_PER_BYTE = 24
MAX_LARGEST = 4


class PixelBudget:
    """What is left of it; its methods may be called from several threads."""

    def __init__(self, images: Sequence[object], max_image_pixels: int) -> None:
        # Other pictures are pixels already.
        size = sum(len(image) for image in images if isinstance(image, bytes))
        fair = max(SMALL_PIXELS, PIXELS_PER_BYTE * size)
        self._limit = min(fair, MAX_LARGEST * max_image_pixels)
        self._pixels = [0] * len(images)

    def spend(self, index: int, pixels: int) -> None:
        """Counts an image, once however often it is decoded. Raises ImageTooLarge beyond the budget."""
        self._pixels[index] = pixels
        together = sum(self._pixels)
        if together > self._limit:
            raise ImageTooLarge(
                f"with it the request's images have {together} pixels together, more than the "
                f"{self._limit} allowed for its size."
            )
