import re
from pathlib import Path

import openapi_document

from service.api.protocols.v1 import routes as v1
from service.api.protocols.v2 import routes as v2
from service.api.routes import benchmark, explain, heads, operations, predict
from service.app import create_app
from service.settings import Settings

COMMITTED = Path(__file__).parents[2] / "openapi.yaml"


def test_the_committed_document_is_the_generated_one():
    assert COMMITTED.read_text() == openapi_document.render(), "run: make openapi"


def test_every_route_is_in_it():
    documented = {
        (path, method)
        for path, item in create_app(Settings()).openapi()["paths"].items()
        for method in item
    }
    routers = (
        predict.router,
        explain.router,
        heads.router,
        benchmark.router,
        operations.router,
        operations.metrics_router,
        v1.router,
        v2.router,
        v2.health,
    )
    routes = {
        (route.path, method.lower())
        for router in routers
        for route in router.routes
        if route.include_in_schema
        for method in route.methods
    }
    assert documented == routes
    assert len(routes) == 26


def test_every_reference_leads_somewhere():
    document = openapi_document.render()
    schemas = create_app(Settings()).openapi()["components"]["schemas"]
    references = set(re.findall(r"#/components/schemas/(\w+)", document))
    assert references == set(schemas)


def test_the_interactive_page_answers(client):
    assert "text/html" in client.get("/docs").headers["content-type"]
