"""What the tests of several servers share, and the table of what became of every request."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleet.replicas import FILES, has, proxied

NO_SKIP = "RESNET_HEADS_NO_SKIP"
ROWS = pytest.StashKey[list]()


@dataclass
class Ledger:
    """Keeps a row for each load: how many requests got which status."""

    test: str
    rows: list

    def add(self, statuses: Counter[int], remark: str = "") -> None:
        """One row: each request was answered, refused (429), answered otherwise, or not at all (0)."""
        answered, refused, none = (statuses[status] for status in (200, 429, 0))
        other = statuses.total() - answered - refused - none
        self.rows.append((self.test, statuses.total(), answered, refused, other, none, remark))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def ledger(request) -> Ledger:
    return Ledger(request.node.name.removeprefix("test_"), request.config.stash[ROWS])


def pytest_terminal_summary(terminalreporter, config) -> None:
    """The table."""
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("what became of every request")
        head = ("test", "sent", "200", "429", "other", "no answer", "")
        for name, *counts, remark in (head, *rows):
            cells = "".join(f"{count:>10}" for count in counts)
            terminalreporter.write_line(f"{name[:70]:<70}{cells}  {remark}")


@pytest.fixture(params=list(FILES))
def proxy(request, tmp_path):
    """`with proxy(ports) as url`: a real one, with the configuration in deploy/."""
    if not has(request.param):
        assert NO_SKIP not in os.environ, f"{request.param} is not installed"
        pytest.skip(f"needs Debian's {request.param}")
    tmp_path.chmod(0o755)  # nginx' workers are not root

    def start(ports, **changes):
        """`changes` by kind of proxy: `nginx={"60s": "1s"}`."""
        return proxied(request.param, ports, tmp_path, changes.get(request.param, {}))

    start.kind = request.param
    return start


@pytest.fixture(scope="session")
def small_picture(tmp_path_factory) -> Path:
    """A file that costs little to decode."""
    from fakes import picture

    file = tmp_path_factory.mktemp("picture") / "red.png"
    file.write_bytes(picture(size=(64, 64)))
    return file
