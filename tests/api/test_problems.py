from fakes import BrokenHead, fake_heads, head, picture

from service import errors
from service.api import problems


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


def test_a_failing_engine_is_500_without_its_inner_life(connect):
    client = connect(fake_heads(head("gap", BrokenHead()), head("flatten")))
    response = client.post("/predict", content=picture())
    assert response.status_code == 500
    assert "broken on purpose" not in response.text
    assert response.json()["type"] == "urn:resnet-heads:problem:engine-failed"
    assert client.post("/predict?head=flatten", content=picture()).status_code == 200
