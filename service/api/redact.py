"""Removes from error texts what clients must not see; the log has the full text."""

import re

MAX_DETAIL = 2000  # A detail may quote the client's own text, which may be a megabyte.
# Matches absolute paths of two or more folders, and not words such as image/png.
PLACE = re.compile(r"(?<![\w.:/])(?:/[^\s/:;,'\"()]+)+/([^\s/:;,'\"()]+)")


def fit_to_tell(text: str) -> str:
    """Shortens a text to one line of limited length, and each path in it to its last name."""
    told = " ".join(text[: MAX_DETAIL + 1].split())
    return PLACE.sub(r"\1", told if len(text) <= MAX_DETAIL else f"{told}...")
