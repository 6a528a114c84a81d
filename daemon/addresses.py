"""Which hosts may be spoken to, and which addresses their names may have.

Whoever names a host for thumbd to call could make it call into the network that it runs in. So hosts are named in the
settings, and what their names lead to must be public, but for hosts that are named to be private.
"""

import ipaddress
import re
from collections.abc import Collection, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABELS = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\Z")
_NUMBER = re.compile(r"(\d+|0x[0-9a-f]*)\Z")
# Of IPv6 only what is given out to networks; not the addresses that carry one of IPv4 (mapped, NAT64, 6to4, Teredo).
_IPV6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",  # answers in Azure only, with what a machine should not tell
        "2001::/23",
        "2002::/16",
        "3fff::/20",
    )
)


def host_of(text: str) -> str | None:
    """A host in lower case, as it stands in a URL without brackets: a name of ASCII letters, or an address written in
    full. None where it is neither: decimal, octal and hexadecimal addresses, other alphabets, zones."""
    host = text.lower()
    if address_of(host) is not None:
        return host
    # What ends in a number is an address to some, as in 127.1 and 0x7f000001.
    return host if _LABELS.match(host) and not _NUMBER.match(host.rpartition(".")[2]) else None


def address_of(host: str) -> Address | None:
    """The address that a host is written as, None where it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is one of a machine in the public network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found not in _IPV6:
        return False
    special = any(found in network for network in _SPECIAL if network.version == found.version)
    return found.is_global and not (found.is_multicast or found.is_reserved or special)


class Hosts:
    """Named hosts: `films.example`, `films.example:8443`, `*.films.example` (all below it), `*` (all). Raises
    ValueError where one cannot be a host."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [_pattern(pattern) for pattern in patterns]

    def has(self, host: str, port: int, ports: Collection[int] | None = None) -> bool:
        """Whether the host is named, with this port, or without any and it is one of `ports`; None: any will do."""
        return any(
            _matches(name, host) and (port == named if named is not None else ports is None or port in ports)
            for name, named in self._patterns
        )


def _pattern(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::([1-9]\d{0,4}))?", text)
    name, port = (match[1].strip("[]").lower(), int(match[2] or 0)) if match else ("", 0)
    if (name != "*" and host_of(name.removeprefix("*.")) is None) or port > 65535:
        raise ValueError(f'write a host, host:port or *.host, as in "films.example:8443", not {text!r}')
    return name, port or None


def _matches(name: str, host: str) -> bool:
    if name == "*":
        return True
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
