"""Who may be connected to: the public internet, and whom a setting names; and it is the vetted address that is used.
Which addresses are public, and how hosts are written, is in test_remote_addresses.py."""

import asyncio
import socket
import ssl
from typing import Any

import httpcore
import pytest
from listener import Call, always, listening

from daemon.net import FAILED, AddressRefused, Client, Reach, reason_of


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


def addresses(host: str, *private: str) -> list[str]:
    return asyncio.run(Reach(private).addresses(host, 80))


def test_all_addresses_of_a_name_are_vetted(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["8.8.8.8", "2606:4700::1111", "8.8.8.8"], ["8.8.8.8", "10.0.0.1"], ["127.0.0.1"])
    assert addresses("some.test") == ["8.8.8.8", "2606:4700::1111"]
    for _ in range(2):
        with pytest.raises(AddressRefused, match=r"^some\.test is not in the public network$"):
            addresses("some.test")
    assert addresses("some.test", "SOME.test") == ["127.0.0.1"]


def test_hosts_that_may_have_private_addresses() -> None:
    named = ["127.0.0.1", "[::1]", "10.0.0.1:81"]
    assert addresses("127.0.0.1", *named) == ["127.0.0.1"] and addresses("::1", *named) == ["::1"]
    for other in ("127.0.0.2", "localhost", "10.0.0.1", "127.0.0.1.", "[::1]"):
        with pytest.raises(AddressRefused):
            addresses(other, *named)


def ask(url: str, *private: str, silence: float = 10.0) -> int:
    """Its status."""

    async def whole() -> int:
        async with Client(Reach(private)) as client, client.ask("GET", url, {}, silence=silence) as answer:
            return answer.status

    return asyncio.run(whole())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "0", "127.1", "0x7f000001", "2130706433", "[::ffff:7f00:1]"]
)
def test_no_way_to_write_this_machine_gets_through(host: str) -> None:
    with listening(always(200)) as canary, pytest.raises(AddressRefused):
        ask(f"http://{host}:{canary.port}/")
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
        ask("https://rebinding.test/")
    assert (asked, connected) == (["rebinding.test"], [("8.8.8.8", 443)])


def test_addresses_share_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["8.8.8.8", "1.1.1.1", "2606:4700::1111"])
    tried: list[tuple[str, float]] = []

    async def connect_tcp(self: Any, host: str, port: int, timeout: float, *rest: Any) -> Any:
        tried.append((host, timeout))
        raise httpcore.ConnectTimeout("not in a test")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
    with pytest.raises(httpcore.ConnectTimeout):
        ask("https://some.test/", silence=6.0)
    assert tried == [("8.8.8.8", 2.0), ("1.1.1.1", 2.0), ("2606:4700::1111", 2.0)]


def test_the_host_is_named_and_other_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])  # nobody listens at the first
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with listening(always(302)) as listener:
        assert ask(f"http://some.test:{listener.port}/x", "some.test") == 302  # and it stays there
        [call] = listener.calls
        assert (call.path, call.headers["host"]) == ("/x", f"some.test:{listener.port}")


@pytest.mark.parametrize(
    ("rest", "path"),
    [("", "/"), ("?a", "/?a"), ("/a;b=1?c;d", "/a;b=1?c;d"), ("/a%2fb?", "/a%2fb?"), ("/a//b#c", "/a//b")],
)
def test_a_url_is_sent_as_it_stands(rest: str, path: str) -> None:
    with listening(always(200)) as listener:
        assert ask(f"http://127.0.0.1:{listener.port}{rest}", "127.0.0.1") == 200
        assert [call.path for call in listener.calls] == [path]


def test_an_address_of_ipv6_is_named_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bytes] = []

    class Stream(httpcore.AsyncMockStream):
        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            said.append(buffer)

    async def connect_tcp(self: Any, host: str, *rest: Any) -> Any:
        assert host == "2606:4700::1111"
        return Stream([b"HTTP/1.1 204 No Content\r\n\r\n"])

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
    for port in ("", ":8080"):
        assert ask(f"http://[2606:4700::1111]{port}/") == 204
        assert f"Host: [2606:4700::1111]{port}\r\n".encode() in b"".join(said)
        said.clear()


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
        ask(f"https://some.test:{listener.port}/", "some.test")
    assert names == [b"some.test"]


def test_what_is_told_of_errors() -> None:
    def broken(call: Call, handler: Any) -> None:
        handler.close_connection = True

    def reason(url: str, silence: float = 10.0) -> str:
        with pytest.raises(FAILED) as failed:
            ask(url, "127.0.0.1", "nowhere.invalid", silence=silence)
        return reason_of(failed.value)

    assert reason("http://nowhere.invalid/") == "it cannot be connected to"
    assert reason("http://127.0.0.1:1/") == "it cannot be connected to"
    with listening(broken) as listener:
        assert reason(listener.url()) == "the connection broke"
        assert reason(listener.url().replace("http", "https", 1)) == "it cannot be connected to by TLS"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert reason(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.2) == "it does not answer in time"
