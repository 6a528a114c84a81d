"""The OpenAPI document, made true: FastAPI knows what each route takes and gives, but not how a failure is told."""

from http import HTTPStatus
from typing import Any

from daemon.api.problems import MEDIA_TYPE, Problem

_OWN = {"HTTPValidationError", "ValidationError"}  # FastAPI's idea of a problem
_SCHEMAS = "#/components/schemas/"
_RETRY = {
    "Retry-After": {"description": "Seconds to wait before the same is asked again.", "schema": {"type": "integer"}}
}
_METHODS = {"get", "head", "post", "put", "patch", "delete", "options", "trace"}


def truthful(document: dict[str, Any]) -> dict[str, Any]:
    """The same document, in which every problem has its media type and headers, and stands wherever it may come. A
    route speaks of problems where it names one of them; others have failures of their own."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _OWN:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template=_SCHEMAS + "{model}")
    schemas |= {**problem.pop("$defs"), "Problem": problem}
    for path in document["paths"].values():
        for method in _METHODS & path.keys():
            _tell_problems(path[method])
        if "head" in path and "get" in path:  # one function answers both, under one name
            path["head"]["operationId"] = f"head_{path['get']['operationId']}"
    return document


def _tell_problems(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if _refers(responses.get("422", {}), _OWN):
        del responses["422"]
    told = {code for code, response in responses.items() if _refers(response, {"Problem"})}
    if not told:
        return
    told |= {"503"}  # the table can always be out of reach
    told |= {"401"} if operation.get("security") else set()
    told |= {"400"} if operation.get("parameters") or "requestBody" in operation else set()
    told |= {"413"} if "requestBody" in operation else set()
    for code in told:
        responses[code] = {
            "description": HTTPStatus(int(code)).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
            **({"headers": _RETRY} if code in ("429", "503") else {}),
        }
    operation["responses"] = dict(sorted(responses.items()))


def _refers(response: dict[str, Any], schemas: set[str]) -> bool:
    content = response.get("content", {}).values()
    return any(entry.get("schema", {}).get("$ref") in {_SCHEMAS + name for name in schemas} for entry in content)
