"""Which URLs may be read. A source is a stranger's text, and so is every redirect."""

import re
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from daemon.addresses import Hosts, host_of
from daemon.errors import SourceRefused
from daemon.net import PORTS, Reach

HTTP = tuple(PORTS)
_URL = re.compile(r"[!-~]{1,4096}")  # what may stand in a request


class Vetting:
    """`schemes` of URLs, the hosts that are `allowed`, the `private` ones among them, whose addresses may be any, and
    the `ports` of hosts that are allowed without one. `reach`: which addresses may be connected to."""

    def __init__(
        self, schemes: Collection[str], allowed: Sequence[str], private: Sequence[str], ports: Collection[int]
    ) -> None:
        self._schemes = frozenset(schemes)
        self._allowed = Hosts(allowed)
        self._ports = frozenset(ports)
        self.reach = Reach(private)

    def url(self, text: str) -> str:
        """A URL as it is sent, without its fragment. Raises SourceRefused."""
        if not _URL.fullmatch(text) or "\\" in text:
            raise SourceRefused("it has characters that no URL has: write them as %20 and the like")
        try:
            parts = urlsplit(text)
            host, port = host_of(parts.hostname or ""), parts.port
        except ValueError:
            raise SourceRefused("it is no URL: write it as in https://films.example/film.mp4") from None
        if parts.scheme not in HTTP or parts.scheme not in self._schemes:
            raise SourceRefused(f"{parts.scheme}:// may not be read (setting sources.schemes)")
        if "@" in parts.netloc:
            raise SourceRefused("it holds a user or a password: give a URL that needs none")
        if host is None:
            raise SourceRefused("its host is neither a name in ASCII nor a whole address")
        port = PORTS[parts.scheme] if port is None else port
        if not self._allowed.has(host, port, self._ports):
            raise SourceRefused(f"{host}:{port} may not be read (settings sources.allowed_hosts and sources.ports)")
        return text.partition("#")[0]
