"""Answers that nobody reads are not kept for ever."""

import socket
import sys
import time

import pytest

from service.cli.serve import bound

PATIENCE_S = 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")


def fill(connection):
    """Sends until the other side takes no more; returns what ended it, or None."""
    connection.setblocking(False)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            connection.send(bytes(2**16))
        except BlockingIOError:
            time.sleep(0.02)
        except OSError as exc:
            return exc
    return None


def test_a_client_that_never_reads_its_answer_is_disconnected():
    with bound("127.0.0.1", 0, unread_s=1) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()) as deaf, listener.accept()[0] as served:
            assert fill(served), "it is still kept"
            assert deaf.fileno() > 0
