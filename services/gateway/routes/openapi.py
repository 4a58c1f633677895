"""`/openapi.json`: the API described for machines (OpenAPI 3.1), written from the rows that serve it."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway.call import Call, Handler, Route

_NAMES = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{name}"

SIGNATURE = (
    "`Nano-HMAC-SHA256 Credential=<id>/<scope>, SignedHeaders=<a;b>, Signature=<hex>` beside the headers "
    "`Nano-Date` (RFC 3339, within 15 minutes of the server's clock) and `Nano-Scope`."
)


def route(routes: Sequence[Route]) -> Route:
    """The row that serves the description of all the others."""
    return Route(
        "GET",
        "/openapi.json",
        _served(routes),
        "This description",
        media_type="application/json",
        is_open=True,
        at="",
    )


def _served(routes: Sequence[Route]) -> Handler:
    text = cache(lambda: envelope.written(description(routes)))

    async def read(_call: Call[None]) -> Answer:
        return Answer(text(), media_type="application/json")

    return read


def description(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document."""
    kinds = [kind for one in routes for kind in (one.body, one.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(
        [*kinds, envelope.Failure, envelope.Problem], ref_template=_REF, schema_hook=_schema_of
    )
    by_kind = dict(zip(map(repr, kinds), schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for one in routes:
        described = _operation(one, by_kind)
        paths.setdefault(one.full_path.removesuffix("*"), {})[one.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nano",
            "version": "1",
            "description": "Every answer is an envelope; clients that accept `application/problem+json` get "
            "real statuses and RFC 9457 bodies for failures.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Nano-Authorization",
                    "description": SIGNATURE,
                }
            },
        },
        "security": [{"signature": []}],
    }


def _schema_of(_kind: type) -> dict[str, Any]:
    return {"type": "string", "format": "ipv4"}  # the only values that JSON has no word for


def _operation(one: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.handler.__module__.rpartition('.')[2]}_{one.handler.__name__}",
        "tags": [one.path.split("/")[1]],
        "parameters": list(_parameters(one)),
        "responses": _responses(one, schemas),
    }
    if one.is_open:
        described["security"] = []
    if one.body is not None:
        described["requestBody"] = {
            "required": not one.may_be_empty,
            "content": {"application/json": {"schema": schemas[repr(one.body)]}},
        }
    elif one.is_upload:
        part = {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": part | {"required": ["image"]}}},
        }
    return described


def _parameters(one: Route) -> Iterable[dict[str, Any]]:
    text = {"type": "string"}
    for name in _NAMES.findall(one.path):
        yield {"name": name, "in": "path", "required": True, "schema": text}
    for name, meaning in one.query.items():
        yield {"name": name, "in": "query", "description": meaning, "schema": text}
    if one.method in {"POST", "PUT", "DELETE"} and one.handler.__module__.endswith(("guests", "instances")):
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "names the task, so that a repeated request starts no second one",
            "schema": text,
        }


def _responses(one: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {} if one.is_websocket else {"content": _content(one, schemas)}
    answers = {str(status): {"description": meaning} | content for status, meaning in one.statuses.items()}
    problem = {"schema": {"$ref": _REF.format(name="Problem")}}
    return answers | {
        "default": {
            "description": "a failure, for clients that accept problems; others get 200 and a Failure",
            "content": {envelope.PROBLEM: problem},
        }
    }


def _content(one: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if one.media_type == "application/json":
        return {one.media_type: {"schema": {"type": "object"}}}
    if one.media_type and one.answer is None:
        return {one.media_type: {"schema": {"type": "string", "format": "binary"}}}
    data = schemas[repr(one.answer)] if one.answer is not None else {"const": ""}
    if one.media_type:
        return {one.media_type: {"schema": data}}
    success = {
        "type": "object",
        "required": ["error_code", "message", "data"],
        "properties": {"error_code": {"const": 0}, "message": {"const": ""}, "data": data},
    }
    failure = {"$ref": _REF.format(name="Failure")}
    return {envelope.TEXT: {"schema": {"anyOf": [success, failure]}}}
