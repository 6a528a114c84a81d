"""No source leads into the network that the daemon runs in: whatever a URL, a name or a redirect says, the canary that
listens there is never called, nor is anybody else connected to."""

import asyncio
import socket
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterator
from typing import Any

import pytest
from film_server import FilmServer
from hypothesis import given
from hypothesis import strategies as st

from daemon.addresses import Hosts, host_of, is_public
from daemon.errors import Failure, SourceRefused, SourceUnreadable
from daemon.sources import Sources
from daemon.sources.files import Files
from daemon.sources.http import Http
from daemon.sources.ranges import Patience
from daemon.sources.vetting import Vetting

FILM = bytes(range(256)) * 1000

PUBLIC = (
    *("93.184.216.34", "8.8.8.8", "1.1.1.1", "223.255.255.254", "172.32.0.1", "192.0.1.1", "100.128.0.1"),
    *("2606:4700::1111", "2a00:1450:4001:80e::200e", "2001:67c:18::1", "2001:4860:4860::8888", "2620:fe::fe"),
)
SPECIAL = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("168.63.129.16", "100.100.100.200", "127.1.2.3", "169.254.169.254", "192.0.0.192", "192.88.99.1", "64:ff9b:1::1"),
    *("::ffff:0:8.8.8.8", "2001::1", "2002:808:808::1", "fd00::1"),
    *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:8.8.8.8", "100::1"),
    *("64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1", "fe80::1", "fec0::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2002:7f00:1::1", "2002:a00:1::", "2001:db8::1", "3fff::1"),
    *("2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:10::1", "2001:20::1", "5f00::1", "4000::1", "fe80::1%lo"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [*SPECIAL, "", "films.example", "127.1"])
def test_special_addresses(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_of_ipv4_within_one_of_ipv6_is_never_public(address: Any) -> None:
    packed = int(address)
    for carried in (packed, 0xFFFF << 32 | packed, 0x64FF9B << 96 | packed, 0x2002 << 112 | packed << 80):
        assert not is_public(_ipv6(carried))


def _ipv6(number: int) -> str:
    return socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big"))


# Hosts.


@pytest.mark.parametrize("host", ["films.example", "FILMS.example", "localhost", "xn--bcher-kva.example", "1.2.3.4"])
def test_hosts(host: str) -> None:
    assert host_of(host) == host.lower()


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.0x1"),
        *(
            "127.0.0.01",
            "1.2.3.256",
            "1.2.3.4.5",
            "0",
            "0x",
            "films.1",
            "films.0x1f",
            "",
            ".",
            "films.",
            ".films",
            "a..b",
        ),
        *("①②⑦.⓪.⓪.①", "127。0。0。1", "ⓛocalhost", "bücher.example", "films.example\u200b", "ſilms.example"),
        *("%31%32%37.0.0.1", "films%2eexample", "a b", "a\tb", "a\nb", "a/b", "a:b", "a@b", "fe80::1%lo", "x" * 64),
    ],
)
def test_what_is_no_host(host: str) -> None:
    assert host_of(host) is None


@pytest.mark.parametrize(
    ("pattern", "host", "port", "has"),
    [
        ("films.example", "films.example", 443, True),
        ("films.example", "films.example", 8443, False),
        ("films.example:8443", "films.example", 8443, True),
        ("films.example:8443", "films.example", 443, False),
        ("Films.Example", "films.example", 80, True),
        ("films.example", "evil-films.example", 443, False),
        ("films.example", "films.example.evil", 443, False),
        ("*.films.example", "a.films.example", 443, True),
        ("*.films.example", "a.b.films.example", 443, True),
        ("*.films.example", "films.example", 443, False),
        ("*.films.example", "evilfilms.example", 443, False),
        ("*.films.example:81", "a.films.example", 81, True),
        ("*", "anything", 443, True),
        ("*", "anything", 22, False),
        ("*:22", "anything", 22, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[2606:4700::1111]", "2606:4700::1111", 443, True),
        ("10.0.0.1", "10.0.0.1", 80, True),
    ],
)
def test_patterns_of_hosts(pattern: str, host: str, port: int, has: bool) -> None:
    assert Hosts([pattern]).has(host, port, (80, 443)) == has


@pytest.mark.parametrize(
    "pattern",
    ["", "a b", "https://a", "a/", "a:", "a:b", "a:0", "a:99999", "**.a", "*a", "a.*", "127.1", "ü.example", "*."],
)
def test_wrong_patterns_of_hosts(pattern: str) -> None:
    with pytest.raises(ValueError, match="write a host"):
        Hosts([pattern])


# The canary.


@pytest.fixture
def canary() -> Iterator[FilmServer]:
    """Listens on all addresses of this machine."""
    with FilmServer(FILM) as canary:
        yield canary
        assert canary.asked == []


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that connections are made to. Those of the public network are not reached."""
    seen: list[str] = []
    real = BaseSelectorEventLoop.sock_connect

    async def connect(self: Any, sock: Any, address: Any) -> None:
        seen.append(address[0])
        if is_public(address[0]):
            raise ConnectionRefusedError(111, "Connection refused")
        await real(self, sock, address)

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", connect)
    return seen


def leading(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Every name leads to these addresses, the second time to the second ones, and so on; the names looked up."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: object, **__: object) -> list[Any]:
        if host is None or host.replace(".", "").isdigit() or ":" in host:
            return real(host, port, *_, **__)
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    real: Any = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def opened(url: str, *, ports: tuple[int, ...] = (80, 443), **vetting: Any) -> bytes:
    """The source's first bytes where everything is allowed that the settings can allow, but private addresses."""
    said = {"schemes": ("http", "https"), "allowed": ["*"], "private": (), "ports": ports, **vetting}
    patience = Patience(connect=5, silence=5, tries=2, delay=0)
    sources = Sources(Files([], 1, {}), Http(Vetting(**said), 1 << 30, 1 << 20, 1 << 20, patience, lambda *_: None))

    async def story() -> bytes:
        async with sources.open(url) as source:
            return str(source.size).encode()

    return asyncio.run(story())


def refused(url: str, kind: type[Failure] = SourceRefused, **vetting: Any) -> str:
    with pytest.raises(Failure) as raised:
        opened(url, **vetting)
    assert type(raised.value) is kind, raised.value
    return raised.value.message


LOCAL = (
    *("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1"),
    *(
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "127.0.0.1.",
        "127.000.000.001",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
    ),
    *(
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[::1%25lo]",
        "[::1%lo]",
    ),
    *("①②⑦.⓪.⓪.①", "127。0。0。1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhost。", "%31%32%37.0.0.1", "127.0.0.1%00", "local\thost"),
    *(
        "films.example@127.0.0.1",
        "films.example:80@127.0.0.1",
        "@127.0.0.1",
        ":@127.0.0.1",
        "films.example%40@localhost",
    ),
    *("127.0.0.1\\@films.example", "films.example\\@127.0.0.1", "127.0.0.1 ", " 127.0.0.1", "::1"),
)


@pytest.mark.parametrize("host", LOCAL)
def test_what_leads_here_is_refused(canary: FilmServer, connected: list[str], host: str) -> None:
    for rest in (f":{canary.port}/film.mp4", f":{canary.port}", f":{canary.port}#@films.example/"):
        assert "192.168" not in refused(f"http://{host}{rest}", ports=(canary.port,))
    assert connected == []


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_refused_as_it_stands(connected: list[str], address: str) -> None:
    refused(f"http://[{address}]/film.mp4" if ":" in address else f"http://{address}/film.mp4")
    assert connected == []


@pytest.mark.parametrize("address", SPECIAL)
def test_a_name_that_leads_there_is_refused(
    connected: list[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another address of it is public."""
    leading(monkeypatch, [address], [PUBLIC[0], address], [address, PUBLIC[0]])
    for _ in range(3):
        said = refused("https://films.example/film.mp4")
        assert said.endswith("films.example is not in the public network (setting sources.private_hosts)")
        assert address not in said, "what a name leads to inside is nobody's business"
    assert connected == []


def test_a_public_address_is_connected_to(connected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    leading(monkeypatch, [PUBLIC[0]])
    refused("https://films.example/film.mp4", SourceUnreadable)
    assert set(connected) == {PUBLIC[0]}


def test_a_name_that_leads_elsewhere_the_second_time(
    canary: FilmServer, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is connected to is what was vetted, not what a second look-up says."""
    asked = leading(monkeypatch, [PUBLIC[0]], ["127.0.0.1"])
    said = refused(f"http://films.example:{canary.port}/film.mp4", ports=(canary.port,))
    assert "not in the public network" in said
    assert connected == [PUBLIC[0]] and asked == ["films.example"] * 2


def test_a_name_is_looked_up_once_for_a_connection(connected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with FilmServer(FILM) as server:
        asked = leading(monkeypatch, ["127.0.0.1"], [PUBLIC[0]])
        size = opened(server.url(host="films.example"), ports=(server.port,), private=["films.example"])
        assert size == str(len(FILM)).encode()
        assert asked == ["films.example"] and connected == ["127.0.0.1"]


ELSEWHERE = (
    *(
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "//127.0.0.1:{port}/",
        "http://[::1]:{port}/",
        "http://0:{port}/",
    ),
    *("http://2130706433:{port}/", "http://user:password@films.example/", "http://169.254.169.254/latest/meta-data/"),
    *("http://films.example:{port}/", "file:///etc/passwd", "ftp://films.example/", "gopher://127.0.0.1:{port}/_GET"),
    *(
        "s3://bucket/key",
        "javascript:alert(1)",
        "data:video/mp4,x",
        "http://ü.example/",
    ),
    *("https://films.example:22/", "https://films.example:99999/", "https://films.example:0/", "http://a b/", "/a b"),
)


@pytest.mark.parametrize("place", ELSEWHERE)
def test_redirects_are_vetted_too(
    canary: FilmServer, connected: list[str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading(monkeypatch, ["127.0.0.1"])
    with FilmServer(FILM) as server:
        server.behaviour = lambda answer: answer.redirect(place.format(port=canary.port))
        ports = (80, 443, server.port, canary.port)
        refused(server.url(), private=[server.host], ports=ports)
        assert len(server.asked) == 1 and connected == ["127.0.0.1"]


def test_a_redirect_may_not_leave_the_schemes(connected: list[str]) -> None:
    with FilmServer(FILM) as server:
        server.behaviour = lambda answer: answer.redirect("https://films.example/film.mp4")
        said = refused(server.url(), private=[server.host], ports=(server.port,), schemes=("http",))
        assert said.endswith("https:// may not be read (setting sources.schemes)")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://other.example/film.mp4", "other.example:443 may not be read"),
        ("https://films.example:8443/film.mp4", "films.example:8443 may not be read"),
        ("https://films.example:22/film.mp4", "films.example:22 may not be read"),
        ("https://films.example.evil/film.mp4", "films.example.evil:443 may not be read"),
        ("http://films.example/film.mp4", "http:// may not be read"),
        ("https://user:password@films.example/film.mp4", "holds a user or a password"),
        ("https://films.example/a b", "characters that no URL has"),
        ("https://films.example/\r\nHost: evil", "characters that no URL has"),
        ("https://films.example/ü", "characters that no URL has"),
        ("https:///film.mp4", "neither a name in ASCII nor a whole address"),
        ("https://films.example:x/", "it is no URL"),
    ],
)
def test_only_what_is_named_is_read(connected: list[str], url: str, said: str) -> None:
    message = refused(url, schemes=("https",), allowed=["films.example"])
    assert said in message and "password@" not in message
    assert connected == []


def test_nothing_is_read_unless_the_settings_say_so(canary: FilmServer, connected: list[str]) -> None:
    assert "setting sources.schemes" in refused(canary.url(), schemes=())
    assert "sources.allowed_hosts" in refused(canary.url(), allowed=())
    assert "sources.private_hosts" in refused(canary.url(), allowed=[canary.host])
    assert "sources.private_hosts" in refused(canary.url(), private=["127.0.0.1:1"], ports=(canary.port,))
    assert connected == []
