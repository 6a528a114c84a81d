"""How messages cross between supervisor and worker: `!II` lengths, a JSON header, a body of bytes. Never pickle.

A source's descriptor goes with the first bytes of its task (SCM_RIGHTS).
"""

import asyncio
import os
import socket
import struct

from pydantic import BaseModel, TypeAdapter, ValidationError

from daemon.task import Event, Order

_LENGTHS = struct.Struct("!II")
MAX_HEADER = 32 << 20
MAX_BODY = 256 << 20

_events: TypeAdapter[Event] = TypeAdapter(Event)
_orders: TypeAdapter[Order] = TypeAdapter(Order)


class WireError(Exception):
    """The other side does not keep to the protocol."""


def pack(message: BaseModel, body: bytes = b"") -> bytes:
    """The message's bytes up to its body."""
    header = message.model_dump_json().encode()
    if len(header) > MAX_HEADER or len(body) > MAX_BODY:
        raise WireError(f"a message of {len(header)} + {len(body)} bytes is larger than the wire's caps")
    return _LENGTHS.pack(len(header), len(body)) + header


def _lengths(prefix: bytes) -> tuple[int, int]:
    header, body = _LENGTHS.unpack(prefix)
    if header > MAX_HEADER or body > MAX_BODY:
        raise WireError(f"lengths {header} and {body} are beyond the wire's caps")
    return header, body


async def receive_event(reader: asyncio.StreamReader) -> tuple[Event, bytes]:
    """The worker's next event. Raises IncompleteReadError at its end, WireError where it does not keep to the rules."""
    header_length, body_length = _lengths(await reader.readexactly(_LENGTHS.size))
    header = await reader.readexactly(header_length)
    body = await reader.readexactly(body_length) if body_length else b""
    try:
        return _events.validate_json(header), body
    except ValidationError as error:
        # Not what each of them says: there may be millions.
        raise WireError(f"not an event, for {error.error_count()} reasons") from None


def receive_order(connection: socket.socket) -> tuple[Order, int | None] | None:
    """The supervisor's next order and the descriptor that came with it; None at the end. Blocks."""
    prefix, descriptors, _, _ = socket.recv_fds(connection, _LENGTHS.size, 1)
    if not prefix:
        return None
    try:
        prefix += _exactly(connection, _LENGTHS.size - len(prefix))
        header_length, _ = _lengths(prefix)
        order = _orders.validate_json(_exactly(connection, header_length))
    except (WireError, ValidationError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return order, descriptors[0] if descriptors else None


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise WireError("the connection ended within a message")
        parts += part
    return bytes(parts)
