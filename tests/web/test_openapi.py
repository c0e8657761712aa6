"""The interface does what its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backoffice.engine import file_registry
from backoffice.web import openapi
from backoffice.web.addresses import ROUTES
from backoffice.web.app import make_app
from backoffice.web.routes import Route
from tests.board import Board
from tests.web.lasting import DATABASES, lasting_board

EXAMPLES = 8  # requests of an operation and a kind, on each database
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
NAMES = {
    "/queues/{name}": "default",
    "/workflows/{name}": "web-video",
    "/profiles/{name}": "mp4-360",
    "/schema/{name}": "job.xsd",
    "/schema/examples/{name}": "submission.xml",
}


@pytest.fixture(scope="module", params=DATABASES)
def schema(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The document as the application itself serves it, with something to see."""
    with lasting_board(request, tmp_path_factory.mktemp("openapi"), "openapi") as board:
        _fill(board)
        app = _called_by_werkzeug(make_app(board.settings))
        yield schemathesis.openapi.from_wsgi("/openapi.json", app)


def _called_by_werkzeug(app: WSGIApplication) -> WSGIApplication:
    """Its client takes the exc_info of a response begun anew for a failure."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return app(environ, lambda status, headers, exc_info=None: start_response(status, headers))

    return call


def _fill(board: Board) -> None:
    worker = board.worker()
    for number in range(3):
        board.submit(title=f"Job {number}", metadata={"dc:title": "Ü"}, parameters={"colour": "r"})
    board.run(worker, fail={"two": "it broke"})
    clip = board.settings.paths.roots[0] / "clip.mp4"
    board.do(file_registry.register, clip, 10, "tester", {"dc:title": "Ü"})


def _kinds(route: Route) -> list[GenerationMode]:
    """Of requests: right ones, and wrong ones where there is something to get wrong."""
    wrong = route.takes or route.query or "{id}" in route.path
    return (
        [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if wrong else [GenerationMode.POSITIVE]
    )


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        pytest.param(route, kind, id=f"{route.method} {route.path} {kind.value}")
        for route in ROUTES
        for kind in _kinds(route)
    ],
)
def test_every_answer_is_one_that_the_document_names(
    schema: Any, route: Route, kind: GenerationMode
) -> None:
    operation = schema[route.path][route.method]
    cases = operation.as_strategy(kind)
    if kind is GenerationMode.POSITIVE and (things := _things(route)):
        cases = cases | st.builds(_of_one, cases, st.sampled_from(things))

    @bounds(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def run(case: Any) -> None:
        case.call_and_validate(headers=HEADERS, checks=CHECKS)

    run()


def _things(route: Route) -> list[dict[str, object]]:
    """Values for the path that lead to something."""
    if "{id}" in route.path:
        return [{"id": number} for number in (1, 2, 3)]
    return [{"name": name} for path, name in NAMES.items() if route.path.startswith(path)]


def _of_one(case: Any, thing: dict[str, object]) -> Any:
    case.path_parameters |= thing
    return case


def test_the_document_is_valid(schema: Any) -> None:
    schema.validate()


def test_each_operation_has_a_name_of_its_own() -> None:
    document = json.loads(openapi.document(ROUTES, ""))
    names = Counter(
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    )
    assert names.most_common(1)[0][1] == 1
    assert sum(names.values()) == len(ROUTES)
