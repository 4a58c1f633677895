"""The description is open to all, complete, and holds together."""

import json
from pathlib import Path
from typing import Any

from services.gateway.app import DOCUMENTED
from services.gateway.routes import openapi
from tests.support.zone import zone

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.description(DOCUMENTED)))


def test_every_route_is_described() -> None:
    for route in DOCUMENTED:
        described = DOCUMENT["paths"][route.full_path.removesuffix("*")][route.method.lower()]
        assert described["summary"] == route.summary
        assert set(described["responses"]) == {*map(str, route.statuses), "default"}
        names = {one["name"] for one in described["parameters"]}
        assert set(route.query) <= names
        assert ("requestBody" in described) == (route.body is not None or route.is_upload)
        assert route.summary[0].isupper()


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [one for value in node.values() for one in references(value)]
        return [one for value in node for one in references(value)] if isinstance(node, list) else []

    found = references(DOCUMENT)
    assert found
    assert all(one.rpartition("/")[2] in schemas for one in found)
    assert all(name.isidentifier() for name in schemas)


async def test_the_description_is_served_without_signature(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["openapi"] == "3.1.0"
        assert set(answer.json()["paths"]) == set(DOCUMENT["paths"])
