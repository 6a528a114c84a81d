"""Connections to hosts that somebody else has named: to public addresses only, unless a setting names the host.

A name is looked up once, and the address that was vetted is the one connected to; TLS and the Host header still speak
of the name. No redirect is followed, no proxy of the environment used, nothing unpacked: httpcore does none of that.
"""

import asyncio
import socket
import ssl
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpcore

from daemon.errors import Failure

# Addresses that Python calls global, but which lead elsewhere: multicast, relays and translators to IPv4, of which any
# address may be the end, old site-local ones, and the host that answers within Azure's machines.
_ELSEWHERE = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
        "224.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
        "ff00::/8",
    )
)
_LOOKUPS = 8  # at once: names that nobody answers for must not hold up other threads


class AddressRefused(Failure):
    """A host with no address that may be connected to."""

    code = "address_refused"


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet, of IPv4 or IPv6."""
    parsed: IPv4Address | IPv6Address = ip_address(address)
    return parsed.is_global and not any(parsed in network for network in _ELSEWHERE)


def is_named(host: str, names: Collection[str]) -> bool:
    """Whether a host is among these, in whatever case, with or without brackets and the dot at the end."""
    return _plain(host) in {_plain(name) for name in names}


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


class Vetting:
    """Which hosts may be connected to: those with a public address, and those named in `allowed_private`."""

    def __init__(self, allowed_private: Collection[str]) -> None:
        self._allowed = frozenset(allowed_private)
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    async def vetted_addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to, in the resolver's order. Raises AddressRefused where there
        is none, and OSError where the name is not known."""
        look_up = partial(socket.getaddrinfo, _plain(host), port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if is_named(host, self._allowed):
            return addresses
        if public := [address for address in addresses if is_public(address)]:
            return public
        raise AddressRefused(f"host {host!r} has no public address")


class _Network(httpcore.AsyncNetworkBackend):
    """Connects to vetted addresses, one after the other."""

    def __init__(self, vetting: Vetting) -> None:
        self._vetting = vetting
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
                addresses = await self._vetting.vetted_addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name was not found in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name is not known") from error
        failed: Exception | None = None
        for address in addresses:
            try:
                return await self._below.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("it has no address")

    async def sleep(self, seconds: float) -> None:
        await self._below.sleep(seconds)


@cache
def _authorities() -> ssl.SSLContext:
    """Read once: that takes a tenth of a second."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()
    return context


def http_pool(allowed_private: Collection[str], *, reused: bool = True) -> httpcore.AsyncConnectionPool:
    """A client for `http` and `https` whose connections are vetted. Trusts the usual and the system's authorities.
    `reused`: whether a connection is kept for the next request; what may not be said twice should not go into one that
    the other side may just be closing."""
    network = _Network(Vetting(allowed_private))
    return httpcore.AsyncConnectionPool(
        _authorities(), max_connections=None, max_keepalive_connections=None if reused else 0, network_backend=network
    )


def reason_of(error: Exception) -> str:
    """What one may be told of an error of httpcore: what went wrong, not what was said or where."""
    if isinstance(error, httpcore.TimeoutException | TimeoutError):
        return "it does not answer in time"
    if isinstance(error, httpcore.ConnectError):
        return "it cannot be connected to" + (" by TLS" if isinstance(error.__cause__, ssl.SSLError) else "")
    return "the connection broke"
