"""gRPC: the calls of `calls.py`, the standard health service, and reflection where it is wanted."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from daemon.api.access import bearer
from daemon.api.yandex.calls import SERVICES, Call
from daemon.api.yandex.codes import asked, status_of
from daemon.api.yandex.thumbnails import Thumbnails
from daemon.metrics import Metrics

MAX_MESSAGE = 1 << 20  # bytes of a request
_MOST_AT_ONCE = 1000  # calls
_MOST_KEYLESS = 50  # that watch the health service, and as many that look at the reflection
_GRACE = 2.0  # seconds for calls that run, when the rest of the daemon has stopped
_IDLE_MS = 600_000
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.so_reuseport", 0),  # a port that is taken is taken
    ("grpc.max_connection_idle_ms", _IDLE_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_CODES = {kind.value[0]: kind for kind in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"
_Context = grpc.aio.ServicerContext[Message, Message]
_Watching = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]
_Reflecting = grpc.aio.ServicerContext[ServerReflectionRequest, ServerReflectionResponse]
_Handler = Callable[[Message, _Context], Awaitable[Message]]


class Rpc:
    """The gRPC server of a daemon. Made in a running loop. Raises OSError where it cannot listen."""

    def __init__(self, listen: str, thumbnails: Thumbnails, metrics: Metrics, *, reflected: bool) -> None:
        self._thumbnails = thumbnails
        self._metrics = metrics
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_AT_ONCE)
        self._health = _Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service, calls in SERVICES.items():
            handlers: dict[str, grpc.RpcMethodHandler[Message, Message]] = {
                call.name.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(
                    self._handler(call),
                    request_deserializer=call.request.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for call in calls
            }
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        if reflected:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
            add(_Reflection(names), self._server)
        try:
            self._server.add_insecure_port(listen)
        except RuntimeError:
            raise OSError("it cannot be listened on: is it in use?") from None

    async def set_ready(self, ready: bool) -> None:
        """What the health service says, of the server and of each service."""
        status = HealthCheckResponse
        for service in ("", *SERVICES):
            await self._health.set(service, status.SERVING if ready else status.NOT_SERVING)

    async def serve(self) -> None:
        """Until cancelled; then the calls that run have a moment to end."""
        await self._server.start()
        try:
            await self._server.wait_for_termination()
        finally:
            await self._server.stop(_GRACE)

    def _handler(self, call: Call) -> _Handler:
        async def handle(request: Message, context: _Context) -> Message:
            begun, code = monotonic(), "CANCELLED"
            try:
                said = _texts(context)
                org = await self._thumbnails.service.authenticate(bearer(said.get("authorization", "")))
                answer = await call.run(self._thumbnails, org.name, request, said.get("idempotency-key"))
                code = "OK"
                return answer
            except Exception as error:  # noqa: BLE001  everything has a status
                status = status_of(error, asked(call.name))
                code = _CODES[status.code].name
                await context.abort(_CODES[status.code], status.message, ((_DETAILS, status.SerializeToString()),))
            finally:
                self._metrics.grpc_requests.labels(call.name, code).inc()
                self._metrics.grpc_duration.labels(call.name).observe(monotonic() - begun)

        return handle


class _Places:
    """For calls that need no key and may never end: those of all others must have room beside them."""

    def __init__(self) -> None:
        self._taken = 0

    @asynccontextmanager
    async def one(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncGenerator[None, None]:
        if self._taken >= _MOST_KEYLESS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MOST_KEYLESS} do so already: try again later")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class _Health(health.aio.HealthServicer):
    def __init__(self) -> None:
        super().__init__()
        self._places = _Places()

    async def Watch(self, request: HealthCheckRequest, context: _Watching) -> None:
        async with self._places.one(context):
            await super().Watch(request, context)


class _Reflection(reflection.aio.ReflectionServicer):
    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._places = _Places()

    async def ServerReflectionInfo(  # type: ignore[override]  # a generator, there too
        self, request_iterator: AsyncIterable[ServerReflectionRequest], context: _Reflecting
    ) -> AsyncGenerator[ServerReflectionResponse, None]:
        answers: Any = super().ServerReflectionInfo(request_iterator, context)
        async with self._places.one(context):
            async for answer in answers:
                yield answer


def _texts(context: _Context) -> dict[str, str]:
    """The metadata of a call that are text."""
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
