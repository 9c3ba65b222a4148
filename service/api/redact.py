"""What went wrong, made fit for strangers: what else there is to know is for the log."""

import re

MAX_DETAIL = 2000  # A detail may quote the client's own text, which may be a megabyte.
# Matches absolute paths of two or more folders, and not words such as image/png.
PLACE = re.compile(r"(?<![\w.:/])(?:/[^\s/:;,'\"()]+)+/([^\s/:;,'\"()]+)")


def fit_to_tell(text: str) -> str:
    """One line, not too long, and the last name of each path only: where files lie is for the log."""
    told = " ".join(text[: MAX_DETAIL + 1].split())
    return PLACE.sub(r"\1", told if len(text) <= MAX_DETAIL else f"{told}...")
