"""Who asks: the API key of a request, as a bearer token or in `X-Api-Key`."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer

from daemon.catalogue.organisations import Organisation
from daemon.service import Service

# For the OpenAPI document: the keys are read below, for both may be wrong in ways that these do not tell apart.
_bearer = HTTPBearer(auto_error=False, description="An API key of `thumbd org add`.")
_header = APIKeyHeader(name="X-Api-Key", auto_error=False, description="The same key, as HesedVid's clients send it.")


async def service_of(request: Request) -> Service:  # async, or FastAPI would ask a thread for it
    service: Service = request.app.state.service
    return service


def bearer(authorization: str) -> str | None:
    """The token of an `Authorization` header, None where it holds none."""
    kind, _, token = authorization.partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


async def caller(request: Request) -> Organisation:
    """The organisation whose key came with the request. Raises Unauthenticated."""
    key = bearer(request.headers.get("authorization", "")) or request.headers.get("x-api-key")
    return await (await service_of(request)).authenticate(key)


TheService = Annotated[Service, Depends(service_of)]
Caller = Annotated[Organisation, Depends(caller)]
SECURITY = [Depends(_bearer), Depends(_header)]
