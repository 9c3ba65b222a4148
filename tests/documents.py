"""README.md and docs/*.md, as the tests read them that hold them true."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FRONT_PAGE = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
PATHS = [FRONT_PAGE, *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(path.read_text() for path in PATHS)
LINES = TEXT.splitlines()


def blocks(language: str) -> list[str]:
    """The code blocks that are fenced as `language`, of all documents."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands(*starts: str) -> list[str]:
    """The lines of shell blocks that start so."""
    lines = (line for block in blocks("sh") for line in block.splitlines())
    return [line for line in lines if line.startswith(starts)]


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of each row of the tables whose first column has this heading."""
    is_inside = False
    for line in LINES:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            is_inside = False
        elif cells[0] == heading:
            is_inside = True
        elif is_inside and not line.startswith("|---"):
            yield cells


def anchors(path: Path) -> set[str]:
    """What a link to a heading of this document may end with, made as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> list[str]:
    """The targets of this document's links and pictures that are not on the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [target for target in targets if "://" not in target]
