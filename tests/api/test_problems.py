import inspect
import json
import re

import pytest
from fakes import BrokenHead, fake_heads, head, picture

from service import errors
from service.api import problems
from service.api.redact import fit_to_tell


def leaves(kind):
    below = kind.__subclasses__()
    return {leaf for child in below for leaf in leaves(child)} if below else {kind}


def test_every_request_error_has_a_row():
    assert leaves(errors.RequestError) == set(problems.TABLE)


def test_a_problem_has_the_members_of_rfc_9457_and_error(client):
    response = client.post("/predict?head=nope", content=picture())
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "urn:resnet-heads:problem:unknown-head"
    assert problem["title"] == "Unknown head"
    assert problem["status"] == response.status_code == 404
    assert problem["error"] == problem["detail"]


def test_routes_and_methods_that_do_not_exist_are_problems_too(client):
    assert client.get("/nope").json()["status"] == 404
    response = client.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.headers["content-type"] == "application/problem+json"


def test_clients_of_other_servers_are_told_400_where_ours_are_told_422():
    for row in problems.TABLE.values():
        told = {row.status_for(is_foreign) for is_foreign in (False, True)}
        assert told in ({row.status}, {422, 400})
    foreign = problems.documented(*problems.TABLE.keys() - {errors.CannotExplain}, is_foreign=True)
    assert 400 in foreign
    assert 422 not in foreign


def test_a_failing_engine_is_500_without_its_inner_life(connect):
    client = connect(fake_heads(head("gap", BrokenHead()), head("flatten")))
    response = client.post("/predict", content=picture())
    assert response.status_code == 500
    assert "broken on purpose" not in response.text
    assert response.json()["type"] == "urn:resnet-heads:problem:engine-failed"
    assert client.post("/predict?head=flatten", content=picture()).status_code == 200


# what no answer may tell: where files lie, what was called, and which libraries run
STORE = "/srv/data/model_store"
FOREIGN = (
    f"OSError: [Errno 5] Input/output error: '{STORE}/gap/1/card.json'",
    f"Exception from core.cpp:126: cannot open {STORE}/.compiled/ab/network.bin: it is cut short",
    f'File "/usr/lib/python3/site-packages/keras/src/saving.py", line 5, in load; {STORE}/gap',
)
LEAK = re.compile(r"/srv|/usr|site-packages|model_store/|Traceback|\b\d+\.\d+\.\d+\b")
FACTS = {
    "known": ["gap"],
    "head": "gap",
    "version": 1,
    "loaded": [2],
    "images": 3,
    "jobs": 3,
    "limit": 2,
    "limit_s": 1.5,
    "timeout_s": 1.5,
    "retry_after_s": 1,
    "needed_mb": 2.5,
    "available_mb": 1.5,
}


def raised(leaf: type[errors.RequestError], reason: str) -> errors.RequestError:
    """An error of that kind with this reason, where it takes one."""
    wanted = inspect.signature(leaf.__init__).parameters
    if "args" in wanted:
        return leaf(reason)
    return leaf(
        **{name: value for name, value in (FACTS | {"reason": reason}).items() if name in wanted}
    )


@pytest.mark.parametrize("reason", FOREIGN)
@pytest.mark.parametrize("leaf", problems.TABLE, ids=lambda leaf: leaf.__name__)
def test_no_problem_tells_where_files_lie_whatever_was_raised(leaf, reason):
    told = json.loads(problems.answer(raised(leaf, reason)).body)
    assert not LEAK.search(json.dumps(told))
    assert told["detail"]


@pytest.mark.parametrize("reason", FOREIGN)
def test_neither_does_a_version_that_stays_out(connect, reason):
    client = connect(fake_heads(failed={"gap": {1: reason}}))
    for path in ("/heads", "/heads/gap", "/readyz"):
        assert not LEAK.search(client.get(path).text)
    assert "Input/output error" in client.get("/heads").text or reason is not FOREIGN[0]
    assert client.post("/predict", content=picture()).status_code == 503


def test_routes_and_parameters_are_no_places():
    for text in ("POST /benchmark makes one.", "format: image/png is for one image.", "1/2 and a/b/c"):
        assert fit_to_tell(text) == text
