"""Who may be connected to: the public internet, and whom a setting names; and it is the vetted address that is used."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpcore
import pytest
from listener import Call, always, listening

from daemon.net import AddressRefused, Vetting, http_pool, is_named, is_public, reason_of

T = TypeVar("T")

PUBLIC = """8.8.8.8 1.1.1.1 172.32.0.1 192.0.1.1 100.128.0.1 2606:4700::1111 2a00:1450:4001:81b::200e 2001:67c:18::1
2001:4860:4860::8888 2620:fe::fe"""
OTHERS = """0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.1.2.3 168.63.129.16 169.254.169.254
172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1
224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::8.8.8.8 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::ffff:0:8.8.8.8
64:ff9b::8.8.8.8 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::1 2002:808:808::1 3fff::1 5f00::1
fc00::1 fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", OTHERS.split())
def test_addresses_that_are_not(address: str) -> None:
    assert not is_public(address)


def test_names_are_compared_as_hosts_are() -> None:
    named = ["Hooks.Internal.", "127.0.0.1", "[::1]"]
    assert all(is_named(host, named) for host in ("hooks.internal", "HOOKS.INTERNAL.", "127.0.0.1", "::1", "[::1]"))
    assert not any(is_named(host, named) for host in ("internal", "a.hooks.internal", "127.0.0.2", "localhost"))


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names are found to have these addresses, each time the next of them; the names that were looked up."""
    asked: list[str] = []
    left = list(answers)
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **keys: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name.endswith(".test"):
            return real(host, port, *rest, **keys)
        asked.append(name)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [entry for address in found for entry in real(address, port, *rest, **keys)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_only_public_addresses_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["10.0.0.1", "8.8.8.8", "::1"], ["10.0.0.1", "127.0.0.1"])

    async def both() -> None:
        vetting = Vetting([])
        assert await vetting.vetted_addresses("some.test", 80) == ["8.8.8.8"]
        with pytest.raises(AddressRefused, match=r"some\.test"):
            await vetting.vetted_addresses("some.test", 80)
        assert await Vetting(["SOME.test"]).vetted_addresses("some.test", 80) == ["10.0.0.1", "127.0.0.1"]

    asyncio.run(both())


def run(work: Callable[[httpcore.AsyncConnectionPool], Awaitable[T]], *allowed: str) -> T:
    async def whole() -> T:
        async with http_pool(allowed) as pool:
            return await work(pool)

    return asyncio.run(whole())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "0", "127.1", "0x7f000001", "2130706433", "[::ffff:7f00:1]"]
)
def test_no_way_to_write_this_machine_gets_through(host: str) -> None:
    with listening(always(200)) as canary, pytest.raises((AddressRefused, httpcore.ConnectError)):
        run(lambda pool: pool.request("GET", f"http://{host}:{canary.port}/"))
    assert canary.calls == []


def test_the_vetted_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is vetted, and private afterwards, is not looked up a second time."""
    asked = resolving(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    connected: list[tuple[str, int]] = []

    async def connect_tcp(self: Any, host: str, port: int, *rest: Any) -> Any:
        connected.append((host, port))
        raise httpcore.ConnectError("not in a test")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
    with pytest.raises(httpcore.ConnectError):
        run(lambda pool: pool.request("GET", "https://rebinding.test/"))
    assert (asked, connected) == (["rebinding.test"], [("8.8.8.8", 443)])


def test_the_host_is_named_and_other_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])  # nobody listens at the first
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with listening(always(302)) as listener:
        answer = run(lambda pool: pool.request("GET", f"http://some.test:{listener.port}/x"), "some.test")
        assert answer.status == 302  # and it stays there
        [call] = listener.calls
        assert (call.path, call.headers["host"]) == ("/x", f"some.test:{listener.port}")


def test_tls_is_checked_against_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    names: list[object] = []
    real = ssl.SSLContext.wrap_bio

    def wrap_bio(self: ssl.SSLContext, *rest: Any, **keys: Any) -> Any:
        names.append(keys.get("server_hostname"))
        assert self.verify_mode is ssl.CERT_REQUIRED and self.check_hostname
        return real(self, *rest, **keys)

    monkeypatch.setattr(ssl.SSLContext, "wrap_bio", wrap_bio)
    with listening(always(200)) as listener, pytest.raises(httpcore.ConnectError):  # it speaks no TLS
        run(lambda pool: pool.request("GET", f"https://some.test:{listener.port}/"), "some.test")
    assert names == [b"some.test"]


def test_what_is_told_of_errors() -> None:
    def broken(call: Call, handler: Any) -> None:
        handler.close_connection = True

    async def ask(url: str, seconds: float = 10.0) -> str:
        async with http_pool(["127.0.0.1", "nowhere.invalid"]) as pool:
            timeout = {"connect": 5.0, "read": seconds, "write": 5.0, "pool": 5.0}
            try:
                await pool.request("GET", url, extensions={"timeout": timeout})
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                return reason_of(error)
        return ""

    assert asyncio.run(ask("http://nowhere.invalid/")) == "it cannot be connected to"
    assert asyncio.run(ask("http://127.0.0.1:1/")) == "it cannot be connected to"
    with listening(broken) as listener:
        assert asyncio.run(ask(listener.url())) == "the connection broke"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asyncio.run(ask(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.2)) == "it does not answer in time"
