"""The runner of what is owed: bounded, patient, and nobody's errand twice; and what callbacks and targets say."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import until
from ledger import Unheard, new
from listener import always, listening
from sqlalchemy import Connection

from daemon.database import Database, open_engine
from daemon.errors import BadJob, TargetFailure, TargetRefused
from daemon.job import Job
from daemon.jobs import errands, table
from daemon.jobs.errands import Errand, NewErrand
from daemon.metrics import Metrics
from daemon.owed.delivery import Endpoints, files_of, region_of
from daemon.owed.expiry import without
from daemon.owed.runner import Backoff, Later, Runner, Trade
from daemon.owed.webhook import Occasion, Webhooks, Wording, signed
from daemon.report import OutputReport, Report
from daemon.target import Target

QUICK = Backoff(attempts=3, first_delay=0.001, longest_delay=0.002)


@pytest.fixture
def database(tmp_path: Any) -> Iterator[Database]:
    base = Database(open_engine(f"sqlite:///{tmp_path / 'thumbd.db'}"))
    yield base
    base.close()


def owing(number: int, **more: Any) -> Callable[[Connection], None]:
    """Adds a job that owes a callback from the start."""
    errand = NewErrand(f"e{number}", "callback", "queued", {"url": "http://127.0.0.1:1/"}, **more)

    def add(connection: Connection) -> None:
        assert table.add(connection, new(f"j{number}", "one", errands=(errand,)))

    return add


def owe(database: Database, count: int, **more: Any) -> None:
    for number in range(count):
        asyncio.run(database.run(owing(number, **more)))


def states(database: Database, count: int) -> list[tuple[str, int, str | None]]:
    def look(connection: Connection) -> list[tuple[str, int, str | None]]:
        told = [each for number in range(count) for each in errands.of(connection, f"j{number}")]
        return [(each.state, each.attempts, each.message) for each in told]

    return asyncio.run(database.run(look))


def run(
    database: Database, pay: Callable[[Errand], Awaitable[str | None]], until_: Callable[[], bool], at_once: int = 4
) -> Metrics:
    """Runs a runner until the condition holds, and drains it."""
    metrics = Metrics()

    async def whole() -> None:
        runner = Runner(database, metrics, "a", {"callback": Trade(pay, at_once, QUICK)}, poll=0.01)
        running = asyncio.create_task(runner.run())
        async with asyncio.timeout(40):
            while not until_() and not running.done():
                await asyncio.sleep(0.01)
            runner.drain()
            await running

    asyncio.run(whole())
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_each_is_paid_once_and_not_too_many_at_once(database: Database) -> None:
    owe(database, 30)
    paid: list[str] = []
    now = most = 0

    async def pay(errand: Errand) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        paid.append(errand.key)
        return "well"

    metrics = run(database, pay, lambda: len(paid) == 30)
    assert sorted(paid) == sorted(f"e{number}" for number in range(30)) and most == 4
    assert states(database, 30) == [("done", 0, "well")] * 30
    assert value(metrics, "thumbd_owed_finished_total", kind="callback", outcome="done") == 30


@pytest.mark.parametrize(
    ("said", "tries", "attempts", "message"),
    [
        (TargetFailure("busy"), 3, 2, "busy"),
        (TargetRefused("never"), 1, 0, "never"),
        (ValueError("a secret"), 1, 0, "internal error: ValueError"),
    ],
)
def test_what_fails(database: Database, said: Exception, tries: int, attempts: int, message: str) -> None:
    owe(database, 1)
    tried: list[int] = []

    async def pay(errand: Errand) -> str:
        tried.append(errand.attempts)
        raise said

    metrics = run(database, pay, lambda: len(tried) >= tries)
    assert tried == list(range(tries))
    assert states(database, 1) == [("failed", attempts, message)]
    assert value(metrics, "thumbd_owed_finished_total", kind="callback", outcome="failed") == 1


def test_later_is_no_failure(database: Database) -> None:
    owe(database, 1)
    tried: list[int] = []

    async def pay(errand: Errand) -> str | None:
        tried.append(errand.attempts)
        if len(tried) < 6:
            raise Later(0.001)
        return None

    run(database, pay, lambda: len(tried) == 6)
    assert tried == [0] * 6 and states(database, 1) == [("done", 0, None)]


def test_who_has_lost_it_stops_and_says_nothing(database: Database) -> None:
    owe(database, 1)
    begun, stopped = threading.Event(), threading.Event()

    async def pay(errand: Errand) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    def taken(connection: Connection) -> None:
        errands.take_over(connection, "b", ["a"])
        errands.claim(connection, "b", {"callback": 1}, 30.0)

    def take() -> None:
        until(begun.is_set, "it is being paid")
        asyncio.run(database.run(taken))

    other = threading.Thread(target=take)
    other.start()
    run(database, pay, stopped.is_set)
    other.join()
    assert states(database, 1) == [("running", 0, None)]


@pytest.fixture
def unheard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unheard]:
    """It loses the answer to the first claim of the errand `e0`."""
    monkeypatch.setattr("daemon.owed.runner._AGAIN", 0.001)

    def is_lost(answer: Any) -> bool:
        return isinstance(answer, list) and "e0" in [each.key for each in answer if isinstance(each, Errand)]

    base = Unheard(open_engine(f"sqlite:///{tmp_path / 'thumbd.db'}"), is_lost)
    yield base
    base.close()


def test_an_errand_whose_claim_was_not_heard_of_is_paid_once(unheard: Unheard) -> None:
    """It was committed: the errand is this owner's, who does not know of it."""
    owe(unheard, 1)
    paid: list[tuple[str, int]] = []

    async def pay(errand: Errand) -> str:
        paid.append((errand.key, errand.token))
        return "well"

    run(unheard, pay, lambda: bool(paid))
    assert unheard.lost == 1 and paid == [("e0", 2)]
    assert states(unheard, 1) == [("done", 0, "well")]


def test_what_is_being_paid_is_not_given_back_with_it(unheard: Unheard) -> None:
    asyncio.run(unheard.run(owing(1)))
    other = asyncio.Event()
    paid: list[tuple[str, int]] = []

    async def pay(errand: Errand) -> str:
        paid.append((errand.key, errand.token))
        if errand.key == "e0":
            other.set()
        elif errand.token == 1:
            await unheard.run(owing(0))
            await other.wait()
        return "well"

    run(unheard, pay, other.is_set)
    assert unheard.lost == 1 and paid == [("e1", 1), ("e0", 2)]
    assert states(unheard, 2) == [("done", 0, "well")] * 2


def test_delays_grow_up_to_the_longest() -> None:
    backoff = Backoff(attempts=8, first_delay=5, longest_delay=1000)
    assert [round(backoff.delay(failed, 0.5)) for failed in range(1, 7)] == [5, 20, 80, 320, 1000, 1000]
    said = (backoff.delay(1, 0.0), backoff.delay(1, 1.0), backoff.delay(10**9, 0.5))
    assert said == pytest.approx((4.0, 6.0, 1000.0))


# Callbacks.


def test_a_dialect_words_its_own_callbacks(database: Database) -> None:
    owe(database, 1, dialect="another")
    occasions: list[Occasion] = []

    async def words(occasion: Occasion) -> Wording:
        occasions.append(occasion)
        return Wording("application/x-www-form-urlencoded", b"event=queued")

    async def no_secret(org: str) -> bytes | None:
        assert org == "one"
        return None

    with listening(always(200)) as listener:

        async def pay() -> str:
            [errand] = await database.run(lambda c: errands.claim(c, "a", {"callback": 1}, 30.0))
            webhooks = Webhooks(database, ("127.0.0.1",), 5.0, no_secret, {"another": words})
            try:
                mine = Errand(**{**vars(errand), "target": {"url": listener.url(), "task": "t"}})
                with pytest.raises(TargetRefused, match="nobody knows"):
                    await webhooks.pay(Errand(**{**vars(mine), "dialect": "forgotten"}))
                return await webhooks.pay(mine)
            finally:
                await webhooks.close()

        assert asyncio.run(pay()) == "answered 200"
        [call] = listener.calls
    assert (call.body, call.headers["content-type"]) == (b"event=queued", "application/x-www-form-urlencoded")
    assert call.headers["thumbd-event"] == "queued" and "thumbd-signature" not in call.headers
    [occasion] = occasions
    assert (occasion.event, occasion.target["task"], occasion.job.report.status) == ("queued", "t", "pending")
    assert [owed.state for owed in occasion.owed] == ["running"]


def test_a_signature_is_of_the_time_and_the_body() -> None:
    # As `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key` says.
    expected = "v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
    headers = signed(b'{"a":1}', 1700000000, b"key")
    assert headers == {"Thumbd-Timestamp": "1700000000", "Thumbd-Signature": expected}


@pytest.mark.parametrize(
    "url",
    [
        *("", "host", "ftp://host/", "http://", "http:///x", "https://host:0/", "https://host:99999/"),
        *("https://u:p@host/", "https://host/#x", "https://host/ü", "https://host/a b", "https://h/\r\nX: y"),
        *("https://[::1/", "https://h/" + "x" * 4000),
    ],
)
def test_what_cannot_be_called_is_refused_unquoted(url: str) -> None:
    with pytest.raises(BadJob, match="callback_url") as caught:
        Job.check({"source": "x", "outputs": [{"output": "thumbnail", "at": 1}], "callback_url": url})
    assert len(url) < 5 or url not in caught.value.message


# Targets.


def target(url: str = "s3://films/a/", **keys: Any) -> Target:
    return Target.model_validate({"url": url, "key": "account", "secret": "s3cr3t", **keys})


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"url": "ftp://host/x"}, "ftp:// is not supported"),
        ({"url": "ftps://host/x"}, "ftps:// is not supported"),
        ({"url": "sftp://host/x"}, "sftp:// is not supported"),
        ({"url": "b2://bucket/x"}, "b2:// is not supported"),
        ({"url": "file:///etc"}, "no scheme of a target"),
        ({"url": "films"}, "a target is a URL"),
        ({"url": "s3://"}, "name of a bucket"),
        ({"url": "s3://films/../x"}, "empty parts"),
        ({"url": "s3://films/a//b"}, "empty parts"),
        ({"url": "s3://films/a?b"}, "must not hold"),
        ({"url": "s3://user:pass@films/"}, "beside the URL"),
        ({"endpoint": "https://u:p@host"}, "an endpoint is a host"),
        ({"endpoint": "host/path"}, "an endpoint is a host"),
        ({"endpoint": "host:99999"}, "at most 65535"),
        ({"url": "gs://films/", "endpoint": "host"}, "an endpoint of its own"),
        ({"url": "az://films/", "permissions": "private"}, "Azure gives them to containers"),
        ({"url": "az://films/", "key": "evil.example/"}, "name of the Azure account"),
        ({"permissions": "public-write"}, "permissions"),
        ({"cache_control": "a\r\nX: y"}, "cache_control"),
        ({"key": None}, "key"),
        ({"bucket": "x"}, "unknown key"),
    ],
)
def test_targets_that_are_refused(keys: dict[str, Any], what: str) -> None:
    said = {"url": "s3://films/", "key": "account", "secret": "s3cr3t", **keys}
    with pytest.raises(BadJob) as caught:
        Job.check({"source": "x", "outputs": [{"output": "thumbnail", "at": 1}], "deliver": [said]})
    assert what in caught.value.message and "s3cr3t" not in caught.value.message and "pass" not in caught.value.message


def endpoints(**keys: Any) -> Endpoints:
    allowed = ("*.amazonaws.com", "storage.googleapis.com", "*.blob.core.windows.net")
    return Endpoints(**{"enabled": True, "allowed": allowed, "allowed_hosts": (), "plain_hosts": (), **keys})


def test_where_a_target_lies() -> None:
    said = endpoints(allowed_hosts=("minio",), plain_hosts=("minio",))
    assert said.origin_of(target()) == "https://s3.amazonaws.com"
    assert said.origin_of(target(region="eu-west-2")) == "https://s3.eu-west-2.amazonaws.com"
    assert said.origin_of(target(endpoint="s3-eu-west-2.amazonaws.com")) == "https://s3-eu-west-2.amazonaws.com"
    assert said.origin_of(target("gs://films/")) == "https://storage.googleapis.com"
    assert said.origin_of(target("azblob://films/")) == "https://account.blob.core.windows.net"
    assert said.origin_of(target(endpoint="minio:9000")) == "http://minio:9000"
    assert said.origin_of(target(endpoint="https://minio:9000/")) == "https://minio:9000"
    assert endpoints(allowed=("*",)).origin_of(target(endpoint="any.example")) == "https://any.example"


@pytest.mark.parametrize(
    ("endpoint", "setting"),
    [
        ("any.example", "deliveries.endpoints"),
        ("amazonaws.com.evil.example", "deliveries.endpoints"),
        ("evilamazonaws.com", "deliveries.endpoints"),
        ("http://s3.amazonaws.com", "deliveries.plain_hosts"),
    ],
)
def test_where_nothing_is_delivered(endpoint: str, setting: str) -> None:
    with pytest.raises(TargetRefused, match=setting):
        endpoints().origin_of(target(endpoint=endpoint))
    assert "deliveries.enabled" in (endpoints(enabled=False).refusal_of(target()) or "")


def test_regions() -> None:
    hosts = {
        "s3.amazonaws.com": "us-east-1",
        "s3.eu-west-2.amazonaws.com": "eu-west-2",
        "s3-eu-west-2.amazonaws.com": "eu-west-2",
        "s3.dualstack.eu-west-2.amazonaws.com": "eu-west-2",
        "minio": "us-east-1",
    }
    assert {host: region_of(target(), host) for host in hosts} == hosts
    assert region_of(target("gs://films/"), "storage.googleapis.com") == "auto"
    assert region_of(target(region="mine"), "s3.eu-west-2.amazonaws.com") == "mine"


def test_the_names_of_objects() -> None:
    assert target("s3://films/a/b.jpg").object_name("x.jpg", alone=True) == "a/b.jpg"
    assert target("s3://films/a/b.jpg").object_name("x.jpg", alone=False) == "a/b.jpg/x.jpg"
    assert target("s3://films/a/").object_name("x.jpg", alone=True) == "a/x.jpg"
    assert target("s3://films").object_name("x/y.jpg", alone=True) == "x/y.jpg"


def _report() -> Report:
    about: dict[str, Any] = {
        "output": "thumbnail",
        "width": 1,
        "height": 1,
        "format": "png",
        "bytes": 1,
        "device": "cpu",
    }
    outputs = [OutputReport(name=name, path=f"d/{name}.png", files=[f"d/{name}.png"], **about) for name in "ab"]
    return Report(id="one", org="default", status="completed", attempt=1, outputs=outputs)


def test_the_files_of_a_job_and_of_an_output() -> None:
    report = _report()
    manifest = ("d/manifest.json", "manifest.json")
    assert files_of(report, "d", None) == [("d/a.png", "a.png"), ("d/b.png", "b.png"), manifest]
    assert files_of(report, "d", "b") == [("d/b.png", "b.png")]
    assert files_of(report, "d", "c") == []


def test_the_manifest_of_another_job_is_left_alone() -> None:
    report = _report()
    mine = report.json_bytes()
    less = without(mine, job=report, over=frozenset("a"))
    assert less is not None and [each["name"] for each in json.loads(less)["outputs"]] == ["b"]
    assert without(mine, job=report, over=frozenset("ab")) is None
    for other in (report.model_copy(update={"id": "two"}).json_bytes(), b"{}", b"no JSON"):
        assert without(other, job=report, over=frozenset("ab")) == other
