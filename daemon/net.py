"""HTTP with hosts that somebody else has named: at public addresses only, unless a setting names the host.

A name is looked up once, and the addresses that were vetted are the ones connected to; TLS and the Host header still
speak of the name. No redirect is followed, no proxy or password of the environment used, nothing unpacked and no cookie
kept: httpcore does none of that.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Self
from urllib.parse import urlsplit

import httpcore

from daemon.addresses import Hosts, host_of, is_public
from daemon.errors import Failure

FAILED = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)
PORTS = {"http": 80, "https": 443}
_LOOKUPS = 8  # at once: names that nobody answers for must not hold up other threads


class AddressRefused(Failure):
    """A host with an address that may not be connected to."""

    code = "address_refused"


class Reach:
    """Which addresses may be connected to: public ones, and whatever the hosts have that are `private`."""

    def __init__(self, private: Sequence[str]) -> None:
        self._private = Hosts(private)
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a host, in the resolver's order. Raises AddressRefused where any of them may not be
        connected to, and OSError where the name is not known."""
        known = host_of(host)
        if known is None:
            raise AddressRefused(f"{host!r} is neither a name nor a whole address in the public network")
        look_up = partial(socket.getaddrinfo, known, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            self.check(known, port, address)
        return addresses

    def check(self, host: str, port: int, address: str) -> None:
        """Raises AddressRefused where a host may not have this address."""
        if not is_public(address) and not self._private.has(host, port):
            # Without the address: what a name leads to inside is nobody's business.
            raise AddressRefused(f"{host} is not in the public network")


class _Network(httpcore.AsyncNetworkBackend):
    """Connects to vetted addresses, one after the other."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._below = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._reach.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name was not found in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name is not known") from error
        share = timeout and timeout / max(1, len(addresses))
        failed: Exception | None = None
        for address in addresses:
            try:
                return await self._below.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("it has no address")

    async def sleep(self, seconds: float) -> None:
        await self._below.sleep(seconds)


@dataclass(frozen=True)
class Answer:
    """To what was asked of `url`. `headers`: by their names in small letters. `body`: as it comes; whoever has heard
    enough leaves off."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


class Client:
    """Asks whom `reach` lets it. Trusts the usual and the system's authorities. `reused`: whether a connection is kept
    for the next request; what may not be said twice should not go into one that the other side may just be closing."""

    def __init__(self, reach: Reach, *, reused: bool = True) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            trusted(),
            max_connections=None,
            max_keepalive_connections=None if reused else 0,
            network_backend=_Network(reach),
        )

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        silence: float,
        connect: float | None = None,
    ) -> AsyncIterator[Answer]:
        """The answer to a request, whose URL is of http or https, in ASCII, and sent as it stands. Seconds: without a
        byte, and until a connection is there. Raises AddressRefused, and those that FAILED names."""
        parts = urlsplit(url)
        usual = PORTS[parts.scheme]
        host, port = parts.hostname or "", usual if parts.port is None else parts.port
        named = f"[{host}]" if ":" in host else host
        about = {"Host": named if port == usual else f"{named}:{port}", **headers}
        rest = url.partition("#")[0].partition("://")[2].removeprefix(parts.netloc)
        target = rest if rest.startswith("/") else f"/{rest}"
        timeout = {"connect": connect or silence, "read": silence, "write": silence, "pool": silence}
        async with self._pool.stream(
            method,
            httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target),
            headers=[(name.encode(), value.encode("latin-1")) for name, value in about.items()],
            content=body,
            extensions={"timeout": timeout},
        ) as answer:
            heard = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            yield Answer(url, answer.status, heard, answer.aiter_stream())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._pool.aclose()


@cache
def trusted() -> ssl.SSLContext:
    """Checks certificates. It is read once: that takes a while."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context


def reason_of(error: Exception) -> str:
    """What one may be told of an error of those that FAILED names: what went wrong, not what was said or where."""
    if isinstance(error, httpcore.TimeoutException | TimeoutError):
        return "it does not answer in time"
    if isinstance(error, httpcore.ConnectError):  # whose cause httpcore's pool takes away, but not its context
        return "it cannot be connected to" + (" by TLS" if isinstance(error.__context__, ssl.SSLError) else "")
    return "the connection broke"
