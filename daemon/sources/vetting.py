"""Which URLs may be read, and which addresses their hosts may have.

A source is a stranger's text, and so is every redirect. What aiohttp is given is the very object that was vetted, and
it connects to the addresses of the one look-up that was vetted.
"""

import asyncio
import re
import socket
from collections.abc import Collection, Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from daemon.addresses import Hosts, address_of, host_of, is_public
from daemon.errors import SourceRefused

HTTP = ("https", "http")
_URL = re.compile(r"[!-~]{1,4096}")  # what may stand in a request


class Vetting:
    """`schemes` of URLs, the hosts that are `allowed`, the `private` ones among them, whose addresses may be any, and
    the `ports` of hosts that are allowed without one."""

    def __init__(
        self, schemes: Collection[str], allowed: Sequence[str], private: Sequence[str], ports: Collection[int]
    ) -> None:
        self.schemes = frozenset(schemes)
        self._allowed = Hosts(allowed)
        self._private = Hosts(private)
        self._ports = frozenset(ports)

    def url(self, text: str) -> URL:
        """A URL as it is sent, without its fragment. Raises SourceRefused."""
        try:
            url = URL(text, encoded=True).with_fragment(None)
            host, port = host_of(url.raw_host or ""), url.port
        except ValueError:
            raise SourceRefused("it is no URL: write it as in https://films.example/film.mp4") from None
        if not _URL.fullmatch(text) or "\\" in text:
            raise SourceRefused("it has characters that no URL has: write them as %20 and the like")
        if url.scheme not in HTTP or url.scheme not in self.schemes:
            raise SourceRefused(f"{url.scheme}:// may not be read (setting sources.schemes)")
        if url.raw_user is not None or url.raw_password is not None:
            raise SourceRefused("it holds a user or a password: give a URL that needs none")
        if host is None or port is None:
            raise SourceRefused("its host is neither a name in ASCII nor a whole address")
        if not self._allowed.has(host, port, self._ports):
            raise SourceRefused(f"{host}:{port} may not be read (settings sources.allowed_hosts and sources.ports)")
        if address_of(host) is not None:
            self.address(host, port, host)
        return url

    def address(self, host: str, port: int, address: str) -> None:
        """Raises SourceRefused where a host may not have this address."""
        if not is_public(address) and not self._private.has(host, port):
            raise SourceRefused(f"{host} is not in the public network (setting sources.private_hosts)")


class VettedResolver(AbstractResolver):
    """Looks names up, and gives addresses that may be connected to: all of a name's, or SourceRefused."""

    def __init__(self, vetting: Vetting) -> None:
        self._vetting = vetting

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        for *_, address in found:
            self._vetting.address(host.lower(), port, str(address[0]))
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """It holds nothing."""
