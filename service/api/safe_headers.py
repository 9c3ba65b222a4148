"""Headers that every answer carries, whoever made it: a page or a route may say something else."""

from starlette.types import Message

# no default-src: the page at /docs loads its script from elsewhere; ours has a policy of its own
POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": POLICY.encode(),
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


def add(start: Message) -> None:
    """Puts those that are missing into the message that begins an answer."""
    said = {name.lower() for name, _ in start["headers"]}
    start["headers"] = [*start["headers"], *(pair for pair in HEADERS.items() if pair[0] not in said)]
