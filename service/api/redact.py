"""What went wrong, made fit for strangers: what else there is to know is for the log."""

import re

MAX_DETAIL = 2000  # else a client's own words might come back, a megabyte of them
# a path of two folders or more; what is not absolute, such as image/png, is none
PLACE = re.compile(r"(?<![\w.:/])(?:/[^\s/:;,'\"()]+)+/([^\s/:;,'\"()]+)")


def fit_to_tell(text: str) -> str:
    """One line, not too long, and the last name of each path only: where files lie is for the log."""
    told = " ".join(text[: MAX_DETAIL + 1].split())
    return PLACE.sub(r"\1", told if len(text) <= MAX_DETAIL else f"{told}...")
