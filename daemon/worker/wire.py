"""How messages cross between supervisor and worker: `!II` lengths, a JSON header, a body of bytes. Never pickle.

Descriptors go with the first bytes of a task (SCM_RIGHTS): the source's, then those of its files.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence

from pydantic import BaseModel, TypeAdapter, ValidationError

from daemon.task import MAX_FILES, Event, Order, Task

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


def send_task(connection: socket.socket, task: Task, source: int, files: Sequence[int]) -> bytes:
    """Sends the beginning of a task with its descriptors, and gives the bytes that are still to be sent. Raises
    WireError where there is not one descriptor for each of the task's files, or more than the wire takes."""
    if len(files) != len(task.files) or len(files) > MAX_FILES:
        raise WireError(f"{len(files)} descriptors for {len(task.files)} files, of {MAX_FILES} at most")
    message = pack(task)
    return message[socket.send_fds(connection, [message[:4]], [source, *files]) :]


def receive_order(connection: socket.socket) -> tuple[Order, list[int]] | None:
    """The supervisor's next order and the descriptors that came with it: of a task its source's, then one for each of
    its files. None at the end. Blocks. Raises WireError where there are more or fewer."""
    prefix, descriptors, _, _ = socket.recv_fds(connection, _LENGTHS.size, 1 + MAX_FILES)
    if not prefix:
        return None
    try:
        prefix += _exactly(connection, _LENGTHS.size - len(prefix))
        header_length, _ = _lengths(prefix)
        order = _orders.validate_json(_exactly(connection, header_length))
        needed = 1 + len(order.files) if isinstance(order, Task) else 0
        if len(descriptors) != needed:
            raise WireError(f"{len(descriptors)} descriptors came, {needed} are needed")
    except (WireError, ValidationError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return order, descriptors


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise WireError("the connection ended within a message")
        parts += part
    return bytes(parts)
