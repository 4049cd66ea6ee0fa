"""The API's description, OpenAPI 3.1, made from what the handlers themselves decode and return."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from gateway.api.decoding import Query, nested_structs, repeatable_fields
from gateway.api.service import Endpoint
from gateway.schemas import ErrorReply

TITLE = "pixserve"
DESCRIPTION = (
    "Moments of videos, found by words, an image, a sound or a clip. Every error has the body "
    "`ErrorReply`, every reply the header `X-Request-Id`."
)
REF = "#/components/schemas/{name}"


@dataclass(frozen=True)
class Operation:
    """One route as the description needs it."""

    method: str
    path: str
    summary: str
    endpoint: Endpoint


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the description of these routes.

    Args:
        operations: the routes, in the order in which they are told.
        version: of the application.
    """
    told = list(operations)
    schemas, components = _schemas(told)
    paths: dict[str, dict[str, Any]] = {}
    for operation in told:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components},
    }


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    types: list[Any] = [ErrorReply]
    for operation in operations:
        endpoint = operation.endpoint
        types += [endpoint.reply, *endpoint.form.values()]
        types += [endpoint.body] if endpoint.body else []
        types += _structs(endpoint.query.kind) if endpoint.query else []
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=REF)
    return dict(zip(unique, schemas, strict=True)), components


def _structs(kind: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    return [kind, *nested_structs(kind).values()]


def _operation(operation: Operation, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    endpoint = operation.endpoint
    told: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _operation_id(operation),
        "parameters": [*_path_parameters(operation.path), *_query_parameters(endpoint.query)],
        "responses": {
            str(endpoint.status): _reply(endpoint, schemas[endpoint.reply]),
            **{str(status): {"description": HTTPStatus(status).phrase} for status in endpoint.also},
            **{str(status): _response(status, schemas[ErrorReply]) for status in endpoint.errors},
        },
    }
    content = _request_content(endpoint, schemas)
    if content:
        told["requestBody"] = {"required": True, "content": content}
    return told


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", operation.path)
    return "_".join([operation.method.lower(), *words])


def _reply(endpoint: Endpoint, schema: Mapping[str, Any]) -> dict[str, Any]:
    told = _response(endpoint.status, schema)
    body = {} if endpoint.reply is bytes else {"schema": schema}
    return told | {"content": {endpoint.media_type: body}}


def _response(status: int, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": schema}},
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(query: Query[Any] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    public = {name: alias for alias, name in query.aliases.items()}
    nested = nested_structs(query.kind)
    told: list[dict[str, Any]] = []
    for name, schema in _properties(query.kind).items():
        if name in nested:
            inner = _properties(nested[name])
            told += [_parameter(f"{name}.{part}", shape) for part, shape in inner.items()]
        elif name not in query.hidden:
            told.append(_parameter(public.get(name, name), schema))
    return told


def _properties(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of each field; only fields that are structs themselves have references."""
    (_, components) = msgspec.json.schema_components([kind], ref_template=REF)
    properties: dict[str, Any] = components[kind.__name__]["properties"]
    assert repeatable_fields(kind) <= properties.keys()
    return properties


def _parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _request_content(endpoint: Endpoint, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint.body:
        content["application/json"] = {"schema": schemas[endpoint.body]}
    if endpoint.form:
        parts = {name: _part(kind, schemas) for name, kind in endpoint.form.items()}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": parts}}
    return content


def _part(kind: Any, schemas: Mapping[Any, Any]) -> Mapping[str, Any]:
    if kind is bytes:
        return {"type": "string", "contentMediaType": "application/octet-stream"}
    schema: Mapping[str, Any] = schemas[kind]
    return schema
