"""The servers that `make bench PART=alternatives` compares give the same answers."""

from contextlib import ExitStack

import pytest
from bench import picture, stores
from bench.alternatives import OURS, check_that_they_agree, plain_servers
from process import serving

pytestmark = pytest.mark.slow


def test_all_servers_give_the_same_answer(tmp_path):
    body = tmp_path / "picture.jpg"
    body.write_bytes(picture.jpeg())
    with ExitStack() as stack:
        urls = {
            name: f"{stack.enter_context(serving(None, command=command)).url}/predict"
            for name, command in plain_servers(tmp_path).items()
        }
        ours = stack.enter_context(serving(stores.lowered(tmp_path))).url
        urls |= {name: f"{ours}/predict?head={head}" for head, name in OURS.items()}
        check_that_they_agree(urls, body)
        with pytest.raises(AssertionError):
            check_that_they_agree(urls | {OURS["gap"]: urls[OURS["gap-bf16"]]}, body)
