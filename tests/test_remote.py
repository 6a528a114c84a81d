"""Sources of servers that behave well and badly: the bytes of the file, or a failure that says what is wrong; and never
a secret in it."""

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
from film_server import TAG, Answer, FilmServer
from harness import until

from daemon.errors import (
    Failure,
    SourceChanged,
    SourceEmpty,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
)
from daemon.media.source import open_source
from daemon.sources import Opened, Sources
from daemon.sources.files import Files
from daemon.sources.http import Http
from daemon.sources.ranges import Patience
from daemon.sources.vetting import Vetting

FILM = Random(1).randbytes(3_000_000)
WHOLE = 1_000_000  # most of a file whose server sends no parts
QUICK = Patience(connect=5, silence=5, piece=20, tries=3, delay=0)
EMPTY = ": the file is empty: is it still being written?"


class Reader:
    """Sources that may be read of the given servers; counts requests by their outcome."""

    def __init__(self, *servers: FilmServer, patience: Patience = QUICK, **vetting: Any) -> None:
        self.counted: dict[tuple[str, str], int] = {}
        self.received = 0
        said = {
            "schemes": ("http", "https"),
            "allowed": [server.host for server in servers],
            "private": ["127.0.0.1"],
            "ports": (80, 443),
        }
        http = Http(Vetting(**{**said, **vetting}), len(FILM), WHOLE, 4 << 20, patience, self._count)
        self.sources = Sources(Files([], 1, {}), http)

    def _count(self, scheme: str, outcome: str, received: int) -> None:
        self.counted[scheme, outcome] = self.counted.get((scheme, outcome), 0) + 1
        self.received += received

    def read(self, url: str, *places: tuple[int, int]) -> list[bytes]:
        """Reads as a worker does, each place on a thread of its own."""
        return asyncio.run(self._read(url, lambda source: [source.read_at(*place) for place in places]))

    def all_of(self, url: str) -> bytes:
        return asyncio.run(self._read(url, lambda source: [source.read_at(0, source.size)]))[0]

    def identity(self, url: str) -> str | None:
        async def identity() -> str | None:
            async with self.sources.open(url) as opened:
                return opened.identity

        return asyncio.run(identity())

    async def _read(self, url: str, reading: Callable[[Any], list[bytes]]) -> list[bytes]:
        async with self.sources.open(url) as opened:
            return await as_worker(opened, reading)

    def failure(self, url: str, *places: tuple[int, int]) -> Failure:
        with pytest.raises(Failure) as raised:
            self.read(url, *(places or ((0, 100), (1_000_000, 100), (2_900_000, 100_000))))
        return raised.value


async def as_worker(opened: Opened, reading: Callable[[Any], list[bytes]]) -> list[bytes]:
    """What a worker does; it calls whatever it cannot read unreadable."""

    def work() -> list[bytes]:
        source = open_source(opened.descriptor)
        try:
            return reading(source)
        finally:
            source.close()

    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise SourceUnreadable(f"reading it failed ({error.strerror})") from None


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, "the server's ends of connections are closed as well")


@pytest.fixture
def server() -> Iterator[FilmServer]:
    with FilmServer(FILM) as server:
        yield server


# Good servers.


def test_the_bytes_are_those_of_the_file(server: FilmServer) -> None:
    reader = Reader(server)
    places = [(0, 10), (2_999_990, 100), (1_234_567, 200_000), (0, 3_000_000), (3_000_000, 5), (65_536, 65_536)]
    assert reader.read(server.url(), *places) == [FILM[at : at + size] for at, size in places]
    assert set(reader.counted) == {("http", "ok")}
    assert reader.received == server.sent


def test_a_few_reads_cost_a_few_bytes(server: FilmServer) -> None:
    Reader(server).read(server.url(), (0, 100), (2_000_000, 30_000))
    assert server.sent <= 3 * 65_536
    assert [asked.range for asked in server.asked] == [(0, 65_536), (1_966_080, 2_031_616)]


def test_nothing_is_said_that_betrays_or_compresses(server: FilmServer) -> None:
    Reader(server).read(server.url("a%2Fb%c3?X-Sig=a%2fb#part"), (0, 9))
    (asked,) = server.asked
    assert asked.path == "/a%2Fb%c3?X-Sig=a%2fb"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert asked.headers["Host"] == server.host
    assert not {"Cookie", "Authorization", "Referer"} & set(asked.headers)


def test_the_environment_is_not_asked(server: FilmServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither proxies nor passwords."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert Reader(server).all_of(server.url()) == FILM
    assert all("Authorization" not in asked.headers for asked in server.asked)


def test_several_threads_read_at_once_and_none_waits_for_another(server: FilmServer) -> None:
    """The first read of each place is held by the server until all have been asked for."""
    wanted = [(number * 200_000, 100) for number in range(1, 14)]
    arrived = threading.Semaphore(0)

    def together(answer: Answer) -> None:
        if answer.range and answer.range[0] > 0:
            arrived.release()
            if len(server.asked) == 1 + len(wanted):
                server.go.set()
            server.go.wait(20)
        answer.part()

    server.behaviour = together
    reader = Reader(server)

    def reading(source: Any) -> list[bytes]:
        found: list[bytes] = [b""] * len(wanted)

        def one(index: int) -> None:
            found[index] = source.read_at(*wanted[index])

        threads = [threading.Thread(target=one, args=(index,)) for index in range(len(wanted))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    assert asyncio.run(reader._read(server.url(), reading)) == [FILM[at : at + size] for at, size in wanted]


def test_a_server_without_parts_is_read_whole_where_the_file_is_small(server: FilmServer) -> None:
    server.film, server.behaviour = FILM[:WHOLE], Answer.whole
    assert Reader(server).all_of(server.url()) == FILM[:WHOLE]
    assert len(server.asked) == 1


def test_a_server_may_end_a_file_by_hanging_up(server: FilmServer) -> None:
    server.film = FILM[:WHOLE]
    server.behaviour = lambda answer: answer.say(
        200, {"Content-Length": "", "Connection": "close"}, FILM[:WHOLE], WHOLE
    )
    assert Reader(server).all_of(server.url()) == FILM[:WHOLE]


def test_a_server_may_send_less_than_it_is_asked_for(server: FilmServer) -> None:
    def short(answer: Answer) -> None:
        begin, end = answer.range or (0, 0)
        answer.range = (begin, min(end, begin + 50_000))
        answer.part()

    server.behaviour = short
    assert Reader(server).all_of(server.url()) == FILM


def test_the_identity_is_that_of_the_bytes(server: FilmServer) -> None:
    reader = Reader(server)
    first = reader.identity(server.url())
    assert first is not None and first == reader.identity(server.url())
    assert reader.identity(server.url("other.mp4")) != first, "servers make tags of time and size"
    for headers in ({"ETag": '"version-2"'}, {"ETag": 'W/"version-1"'}, {"ETag": ""}):
        server.behaviour = partial(Answer.part, **headers)
        assert reader.identity(server.url()) != first
    assert reader.identity(server.url()) is None
    server.film = FILM[:-1]
    server.behaviour = Answer.part
    assert reader.identity(server.url()) != first
    server.film, server.behaviour = FILM[:1000], Answer.whole
    whole = reader.identity(server.url())
    assert whole is not None and whole != first


# Servers that break off.


def test_a_broken_transfer_goes_on_where_it_broke(server: FilmServer) -> None:
    server.behaviour = lambda answer: answer.part(cut=70_000)
    assert Reader(server).all_of(server.url()) == FILM
    assert server.sent < len(FILM) + 400_000


def test_a_server_that_is_busy_now_and_then(server: FilmServer) -> None:
    server.behaviour = lambda answer: answer.say(503) if len(server.asked) % 3 else answer.part()
    reader = Reader(server)
    assert reader.all_of(server.url()) == FILM
    assert set(reader.counted) == {("http", "ok"), ("http", "source_unreadable")}


def test_a_server_that_hangs_is_asked_again(server: FilmServer) -> None:
    """For as long as a silence may last."""
    server.behaviour = lambda answer: server.go.wait(20) if len(server.asked) == 2 else answer.part()  # type: ignore[func-returns-value]
    assert Reader(server, patience=Patience(silence=0.2, tries=2, delay=0)).read(server.url(), (1_000_000, 9)) == [
        FILM[1_000_000:1_000_009]
    ]


# Each of the others has its own end. What is told: (a behaviour, its failure, what that says).

WRONG: dict[str, tuple[Callable[[Answer], object], type[Failure], str]] = {
    "unauthorized": (lambda answer: answer.say(401), SourceRefused, "(status 401)"),
    "forbidden": (lambda answer: answer.say(403), SourceRefused, "(status 403)"),
    "missing": (lambda answer: answer.say(404), SourceMissing, "no such file (status 404): check its URL"),
    "gone": (lambda answer: answer.say(410), SourceMissing, "no such file (status 410): check its URL"),
    "teapot": (lambda answer: answer.say(418), SourceRefused, "does not send it (status 418)"),
    "no content": (lambda answer: answer.say(204), SourceRefused, "does not send it (status 204)"),
    "not modified": (lambda answer: answer.say(304), SourceRefused, "does not send it (status 304)"),
    "no place": (lambda answer: answer.say(302), SourceRefused, "does not send it (status 302)"),
    "busy": (lambda answer: answer.say(429, {"Retry-After": "9"}), SourceUnreadable, "now (status 429)"),
    "broken": (lambda answer: answer.say(500), SourceUnreadable, "now (status 500)"),
    "overloaded": (lambda answer: answer.say(503), SourceUnreadable, "now (status 503)"),
    "empty": (lambda answer: answer.say(416, {"Content-Range": "bytes */0"}), SourceEmpty, EMPTY),
    "empty whole": (lambda answer: answer.say(200), SourceEmpty, EMPTY),
    "not satisfied": (lambda answer: answer.say(416), SourceEmpty, EMPTY),
    "compressed": (partial(Answer.part, Content_Encoding="gzip"), SourceRefused, "compressed"),
    "compressed whole": (lambda answer: answer.whole(**{"Content-Encoding": "br"}), SourceRefused, "compressed"),
    "no parts": (Answer.whole, SourceRefused, f"no parts of files, and it has more than {WHOLE} bytes"),
    "no parts, no length": (
        lambda answer: answer.say(200, {"Content-Length": "", "Connection": "close"}, FILM, len(FILM)),
        SourceRefused,
        f"no parts of files, and it has more than {WHOLE} bytes",
    ),
    "no range": (partial(Answer.part, Content_Range=""), SourceRefused, "other parts"),
    "other range": (partial(Answer.part, Content_Range="bytes 7-65535/3000000"), SourceRefused, "other parts"),
    "no size": (partial(Answer.part, Content_Range="bytes 0-65535/*"), SourceRefused, "other parts"),
    "absurd range": (partial(Answer.part, Content_Range="bytes 0-65535/65535"), SourceRefused, "other parts"),
    "endless range": (partial(Answer.part, Content_Range=f"bytes 0-1/{'9' * 5000}"), SourceRefused, "other parts"),
    "many parts": (
        partial(Answer.part, Content_Range="", Content_Type="multipart/byteranges; boundary=x"),
        SourceRefused,
        "other parts",
    ),
    "too large": (lambda answer: answer.part(total=len(FILM) + 1), SourceRefused, "3000001 bytes, 3000000 are allowed"),
    "no HTTP": (lambda answer: answer.wfile.write(b"SSH-2.0-OpenSSH_9\r\n\r\n"), SourceUnreadable, "broke"),
    "silent": (lambda answer: setattr(answer, "close_connection", True), SourceUnreadable, "broke"),
    "cut off at once": (lambda answer: answer.part(cut=0), SourceUnreadable, "broke"),
    "endless header": (lambda answer: answer.part(X="x" * 200_000), SourceUnreadable, "broke"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_has_its_own_end(server: FilmServer, name: str) -> None:
    server.behaviour, kind, said = WRONG[name]
    reader = Reader(server)
    failure = reader.failure(server.url("film.mp4?signature=secret#fragment"))
    assert (type(failure), said in failure.message) == (kind, True), failure
    assert failure.message.startswith(f"source '{server.url()}': "), "the source, without what may be secret"
    assert failure.retry == isinstance(failure, SourceUnreadable)
    # What may pass is tried again, all else not.
    assert reader.counted == {("http", kind.code): QUICK.tries if failure.retry else 1}


def later(behaviour: Callable[[Answer], object]) -> Callable[[Answer], object]:
    """Good at first."""
    return lambda answer: answer.part() if answer.number == 1 else behaviour(answer)


LATER: dict[str, tuple[Callable[[Answer], object], type[Failure], str]] = {
    "forbidden": (lambda answer: answer.say(403), SourceRefused, "(status 403)"),
    "missing": (lambda answer: answer.say(404), SourceMissing, "no such file"),
    "busy": (lambda answer: answer.say(429), SourceUnreadable, "now (status 429)"),
    "changed": (partial(Answer.part, ETag='"version-2"'), SourceChanged, "it changed"),
    "changed, and heeds the tag": (Answer.whole, SourceChanged, "it changed"),
    "shorter": (lambda answer: answer.say(416), SourceChanged, "it changed"),
    "other size": (lambda answer: answer.part(total=len(FILM) - 1), SourceChanged, "it changed"),
    "precondition": (lambda answer: answer.say(412), SourceChanged, "it changed"),
    "other range": (partial(Answer.part, Content_Range="bytes 7-65535/3000000"), SourceRefused, "other parts"),
    "compressed": (partial(Answer.part, Content_Encoding="gzip"), SourceRefused, "compressed"),
    "ends early": (lambda answer: answer.part(cut=0), SourceUnreadable, "broke"),
    "sends nothing": (
        lambda answer: answer.say(206, {"Content-Range": "bytes 983040-1048575/3000000", "ETag": TAG}),
        SourceUnreadable,
        "does not come",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_it_may_turn_bad_later(server: FilmServer, name: str) -> None:
    behaviour, kind, said = LATER[name]
    server.behaviour = later(behaviour)
    failure = Reader(server).failure(server.url("film.mp4?signature=secret"), (0, 100), (1_000_000, 100))
    assert (type(failure), said in failure.message) == (kind, True), failure
    assert failure.message.startswith(f"source '{server.url()}': ")
    tries = QUICK.tries if failure.retry and kind is not SourceChanged else 1
    assert len(server.asked) == 1 + tries


def test_a_file_without_tags_that_changes(server: FilmServer) -> None:
    old = partial(Answer.part, ETag="", Last_Modified="Sat, 01 Nov 2025 00:00:00 GMT")
    new = partial(Answer.part, ETag="", Last_Modified="Sun, 02 Nov 2025 00:00:00 GMT")
    server.behaviour = old
    assert Reader(server).all_of(server.url()) == FILM
    assert all("If-Range" not in asked.headers for asked in server.asked)
    server.asked.clear()
    server.behaviour = lambda answer: old(answer) if answer.number == 1 else new(answer)
    assert isinstance(Reader(server).failure(server.url()), SourceChanged)


def test_the_tag_goes_along(server: FilmServer) -> None:
    Reader(server).read(server.url(), (0, 100), (1_000_000, 100), (2_000_000, 100))
    assert [asked.headers.get("If-Range") for asked in server.asked] == [None, TAG, TAG]


def test_a_server_that_says_it_has_more_than_it_has(server: FilmServer) -> None:
    """What it does not send is missed, and what it sends is right."""
    server.film = FILM[:1_000_000]

    def lie(answer: Answer) -> None:
        if answer.range and answer.range[0] >= 1_000_000:
            answer.say(206, {"Content-Range": f"bytes {answer.range[0]}-{answer.range[1] - 1}/2000000", "ETag": TAG})
        else:
            answer.part(total=2_000_000)

    server.behaviour = lie
    assert Reader(server).read(server.url(), (900_000, 80_000)) == [FILM[900_000:980_000]]
    failure = Reader(server).failure(server.url(), (1_900_000, 9))
    assert type(failure) is SourceUnreadable and "does not come" in failure.message


def test_a_server_that_sends_more_than_it_is_asked_for(server: FilmServer) -> None:
    """It is listened to no longer than it is asked."""

    def flood(answer: Answer) -> None:
        begin, end = answer.range or (0, 0)
        said = {"Content-Range": f"bytes {begin}-{end - 1}/{len(FILM)}", "ETag": TAG, "Content-Length": ""}
        if answer.number == 1:
            answer.part()
            return
        answer.say(206, {**said, "Connection": "close"}, FILM[begin:end])
        try:
            while not server.go.is_set():
                answer.send(bytes(1 << 16))
        except OSError:
            pass
        answer.close_connection = True

    server.behaviour = flood
    reader = Reader(server)
    assert reader.read(server.url(), (1_000_000, 100_000)) == [FILM[1_000_000:1_100_000]]
    assert reader.received < 1_000_000


def test_a_server_that_trickles(server: FilmServer) -> None:
    """A byte now and then is not silence, but a piece has its time."""

    def trickle(answer: Answer) -> None:
        begin, end = answer.range or (0, 0)
        answer.send_response(206)
        answer.send_header("Content-Length", str(end - begin))
        answer.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(FILM)}")
        answer.end_headers()
        while not server.go.wait(0.02):
            answer.send(b"x")

    server.behaviour = later(trickle)
    failure = Reader(server, patience=Patience(silence=5, piece=0.5, delay=0)).failure(server.url(), (1_000_000, 9))
    assert type(failure) is SourceUnreadable and "no piece of it came whole in 0.5 s" in failure.message


def test_a_server_that_never_answers(server: FilmServer) -> None:
    server.behaviour = lambda answer: server.go.wait(20)
    failure = Reader(server, patience=Patience(silence=0.1, tries=2, delay=0)).failure(server.url())
    assert type(failure) is SourceUnreadable and "does not answer in time" in failure.message


def test_nobody_listens() -> None:
    with FilmServer() as gone:
        url, reader = gone.url(), Reader(gone)
    failure = reader.failure(url)
    assert type(failure) is SourceUnreadable and "broke" in failure.message


def test_a_host_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    failure = Reader(allowed=["films.example"]).failure("http://films.example/film.mp4")
    assert type(failure) is SourceUnreadable and "its host is not found" in failure.message


# TLS.


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Whose certificates are believed, in this process; every name leads to 127.0.0.1."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    monkeypatch.setattr("daemon.net.trusted", lambda: context)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    return authority


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_certificate_is_checked_for_the_name_not_the_address(authority: trustme.CA) -> None:
    asked: list[str | None] = []
    context = serving(authority, "films.example")
    context.sni_callback = lambda _, name, __: asked.append(name)  # type: ignore[assignment, misc]
    with FilmServer(FILM, tls=context) as server:
        allowed = {"allowed": [f"*.example:{server.port}"], "private": ["*.example"]}
        reader = Reader(**allowed)
        assert reader.read(server.url(host="films.example"), (5, 5)) == [FILM[5:10]]
        assert asked == ["films.example"]
        assert server.asked[0].headers["Host"] == f"films.example:{server.port}"
        failure = reader.failure(server.url(host="other.example"))
        assert type(failure) is SourceRefused and "no certificate that can be trusted" in failure.message
        assert len(server.asked) == 1


def test_a_certificate_of_a_stranger(authority: trustme.CA) -> None:
    with FilmServer(FILM, tls=serving(trustme.CA(), "films.example")) as server:
        reader = Reader(allowed=[f"films.example:{server.port}"], private=["films.example"])
        failure = reader.failure(server.url(host="films.example"))
        assert type(failure) is SourceRefused and "no certificate that can be trusted" in failure.message
        assert server.asked == []


# Redirects.


def test_redirects_are_followed(server: FilmServer) -> None:
    with FilmServer() as first:
        steps = {"/1": "2", "/2": "/3?a=b", "/3?a=b": f"//{first.host}/4", "/4": first.url("5")}
        first.behaviour = lambda answer: answer.redirect(
            steps.get(answer.path, server.url("film.mp4?signed")), (301, 302, 303, 307, 308)[len(first.asked) - 1]
        )
        reader = Reader(server, first)
        assert reader.read(first.url("1"), (0, 9), (1_000_000, 9)) == [FILM[:9], FILM[1_000_000:1_000_009]]
        assert len(first.asked) == 5, "and remembered for this source"
        assert {asked.path for asked in server.asked} == {"/film.mp4?signed"}


def test_a_place_that_was_redirected_to_may_be_gone(server: FilmServer) -> None:
    """Signed URLs live for minutes: then the way is gone once more."""
    with FilmServer() as first:
        first.behaviour = lambda answer: answer.redirect(server.url(f"film.mp4?signed={len(first.asked)}"))

        def once(answer: Answer) -> None:
            if sum(asked.path == answer.path for asked in server.asked) > 2:
                answer.say(403)
            else:
                answer.part()

        server.behaviour = once
        places = [(number * 500_000, 9) for number in range(6)]
        assert Reader(server, first).read(first.url(), *places) == [FILM[at : at + size] for at, size in places]
        server.behaviour = later(lambda answer: answer.say(403))
        server.asked.clear()
        assert type(Reader(server, first).failure(first.url())) is SourceRefused


def test_redirects_end(server: FilmServer) -> None:
    server.behaviour = lambda answer: answer.redirect(f"/{len(server.asked)}")
    failure = Reader(server).failure(server.url())
    assert type(failure) is SourceRefused and "more than 5 times" in failure.message
    assert len(server.asked) == 6


# What a hostile worker asks.


def asking(*asks: bytes) -> Callable[[Any], list[bytes]]:
    """Says this to the supervisor, then waits for what it has to say until it hangs up."""

    def reading(source: Any) -> list[bytes]:
        for ask in asks:
            source._wire.sendall(ask)
        return [source.read_at(0, 10)]

    return reading


ASK = struct.Struct("!IQI")
HOSTILE = {
    "beyond": ([ASK.pack(1, len(FILM) - 5, 6)], "beyond the end"),
    "far beyond": ([ASK.pack(1, (1 << 64) - 1, 1)], "beyond the end"),
    "nothing": ([ASK.pack(1, 0, 0)], "0 bytes of its source at once"),
    "too much": ([ASK.pack(1, 0, (1 << 20) + 1)], "1048577 bytes of its source at once"),
    "all": ([ASK.pack(1, 0, (1 << 32) - 1)], "at once"),
    "twice": ([ASK.pack(7, 1_000_000, 1)] * 2, "twice under one number"),
    "too many": ([ASK.pack(n, 1_000_000 + n, 1) for n in range(1, 34)], "more than 32 pieces"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_worker_that_asks_against_the_rules_hears_no_more(server: FilmServer, name: str) -> None:
    asks, said = HOSTILE[name]
    server.behaviour = later(lambda answer: server.go.wait(20))

    async def story() -> str:
        async with Reader(server).sources.open(server.url()) as opened:
            assert opened.answers is not None
            told = asyncio.Event()
            with opened.answers.telling(lambda: told.set() if opened.answers and opened.answers.fault else None):
                wire = socket.socket(fileno=os.dup(opened.descriptor))
                with wire:
                    wire.sendall(b"".join(asks))
                    async with asyncio.timeout(10):
                        await told.wait()
            return str(opened.answers.fault)

    assert said in asyncio.run(story())


def test_nothing_is_left_of_a_read_that_hangs(server: FilmServer) -> None:
    """Whoever opened it goes away while the server keeps silent: no task, no connection, no descriptor."""
    asked = threading.Event()

    def hang(answer: Answer) -> None:
        asked.set()
        server.go.wait(20)

    server.behaviour = later(hang)

    async def story() -> None:
        before = asyncio.all_tasks()
        async with Reader(server).sources.open(server.url()) as opened:
            reading = asyncio.create_task(as_worker(opened, lambda source: [source.read_at(1_000_000, 5)]))
            while not asked.is_set():
                await asyncio.sleep(0.01)
        with pytest.raises(SourceUnreadable):
            await reading
        assert asyncio.all_tasks() == before

    with ExitStack():
        asyncio.run(story())
