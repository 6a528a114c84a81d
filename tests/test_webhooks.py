"""Callbacks: every one arrives, signed, and nobody else is called."""

import hmac
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from clips import RECIPES, Clip, make
from harness import Site, thumbnail, until
from listener import Call, always, in_turn, listening

from daemon.jobs import errands, table
from daemon.report import Report

pytestmark = pytest.mark.daemons

SECRET = "of this organisation"
HERE = {"webhooks__allowed_hosts": '["127.0.0.1"]', "webhooks__secret": SECRET, "webhooks__first_delay": 0.05}


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture
def site(tmp_path: Path, clip: Clip) -> Site:
    return Site(tmp_path, clip.path.parent)


def job_of(source: Path | str, url: str, **keys: Any) -> dict[str, Any]:
    return {"source": str(source), "outputs": [thumbnail(1)], "callback_url": url, **keys}


def owed(site: Site, id: str) -> list[errands.Known]:
    known = site.ask(lambda c: table.get(c, None, id))
    return [] if known is None else site.ask(lambda c: errands.of(c, known.key))


def ended(site: Site, id: str, state: str) -> errands.Known:
    """Waits for the end of the only thing that a job owes."""
    until(lambda: [each.state for each in owed(site, id)] == [state], f"it is {state}")
    [each] = owed(site, id)
    return each


def check_signed(call: Call, secret: str = SECRET) -> None:
    stamp = call.headers["thumbd-timestamp"]
    assert abs(int(stamp) - time.time()) < 600
    signature = hmac.new(secret.encode(), f"{stamp}.".encode() + call.body, sha256).hexdigest()
    assert call.headers["thumbd-signature"] == f"v1={signature}"


def test_the_report_is_posted_once_and_signed(site: Site, clip: Clip) -> None:
    with listening(always(204)) as listener, site.daemon(**HERE) as daemon:
        site.drop(job_of(clip.path, listener.url("/hook?token=t0ken"), id="one", payload="mine & thine"))
        [call] = listener.wait_for(1)
        report = site.report()
        assert Report.model_validate_json(call.body) == report and report.payload == "mine & thine"
        assert (call.method, call.path) == ("POST", "/hook?token=t0ken")
        assert call.headers["host"] == f"127.0.0.1:{listener.port}"
        assert call.headers["content-type"] == "application/json"
        assert call.headers["thumbd-event"] == "completed" and len(call.headers["thumbd-delivery"]) == 26
        check_signed(call)
        done = ended(site, "one", "done")
        assert (done.key, done.message) == (call.headers["thumbd-delivery"], "answered 204")
        site.drop(job_of("missing.mp4", listener.url(), id="two"), "two.json")
        call = listener.wait_for(2)[1]
        assert Report.model_validate_json(call.body) == site.report("two", "failed")
        assert call.headers["thumbd-event"] == "failed"
        ended(site, "two", "done")
        assert daemon.metrics()['thumbd_owed_finished_total{kind="callback",outcome="done"}'] == 2
        assert "t0ken" not in daemon.log_file.read_text()
    assert len(listener.calls) == 2


def test_what_may_pass_is_said_again_under_the_same_name(site: Site, clip: Clip) -> None:
    with listening(in_turn(500, 429, 200)) as listener, site.daemon(**HERE):
        site.drop(job_of(clip.path, listener.url(), id="one"))
        calls = listener.wait_for(3)
        done = ended(site, "one", "done")
        assert {call.headers["thumbd-delivery"] for call in calls} == {done.key}
        assert len({call.body for call in calls}) == 1
        assert (done.attempts, done.message) == (2, "answered 200")
        for call in calls:
            check_signed(call)


@pytest.mark.parametrize("status", [410, 404, 400])
def test_what_is_refused_for_good_is_said_once(site: Site, clip: Clip, status: int) -> None:
    with listening(always(status)) as listener, site.daemon(**HERE) as daemon:
        site.drop(job_of(clip.path, listener.url(), id="one"))
        assert ended(site, "one", "failed").message == f"answered {status}"
        assert site.report().status == "completed"
        [line] = daemon.said("callback failed")
        assert (line["job_id"], line["reason"]) == ("one", f"answered {status}")
    assert len(listener.calls) == 1


def test_after_so_many_attempts_it_is_given_up(site: Site, clip: Clip) -> None:
    with listening(always(503)) as listener, site.daemon(**HERE, webhooks__attempts=3):
        site.drop(job_of(clip.path, listener.url(), id="one"))
        failed = ended(site, "one", "failed")
        assert (failed.attempts, failed.message) == (2, "answered 503")
    assert len(listener.calls) == 3


def test_redirects_are_not_followed(site: Site, clip: Clip) -> None:
    with listening(always(307)) as listener, site.daemon(**HERE, webhooks__attempts=2):
        site.drop(job_of(clip.path, listener.url(), id="one"))
        assert "redirects are not followed" in (ended(site, "one", "failed").message or "")
    assert {call.path for call in listener.calls} == {"/hook"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
)
def test_private_addresses_are_not_called(site: Site, clip: Clip, host: str) -> None:
    with listening(always(200)) as canary, site.daemon(webhooks__first_delay=0.05) as daemon:
        site.drop(job_of(clip.path, f"http://{host}:{canary.port}/", id="one"))
        assert "webhooks.allowed_hosts" in (ended(site, "one", "failed").message or "")
        assert daemon.is_ready()
    assert canary.calls == []


def test_a_slow_or_endless_answer_ends_in_time(site: Site, clip: Clip) -> None:
    over = threading.Event()

    def slow(call: Call, handler: Any) -> int | None:
        if call.path == "/slow":
            over.wait(60)
        elif call.path == "/trickle":  # never silent, never done
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.05):
                handler.wfile.write(b"X: .\r\n")
        else:  # a body that does not end: what counts has been said
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            while not over.is_set():
                handler.wfile.write(chunk)
        return None

    with listening(slow) as listener, site.daemon(**HERE, webhooks__timeout=0.5, webhooks__attempts=1) as daemon:
        for name in ("slow", "trickle", "endless"):
            site.drop(job_of(clip.path, listener.url(f"/{name}"), id=name), f"{name}.json")
        assert ended(site, "endless", "done").message == "answered 200"
        for name in ("slow", "trickle"):
            assert ended(site, name, "failed").message == "it does not answer in time"
        over.set()
        assert daemon.is_ready()


def test_callbacks_may_be_forbidden(site: Site, clip: Clip) -> None:
    with listening(always(200)) as listener, site.daemon(**HERE, webhooks__enabled="false"):
        site.drop(job_of(clip.path, listener.url()))
        report = site.report("job", "failed")
        assert report.error is not None and "webhooks.enabled" in report.error.message
    assert listener.calls == []


def test_a_job_that_is_cancelled_calls_back_too(site: Site, clip: Clip) -> None:
    with listening(always(200)) as listener:
        with site.daemon(workers=1, sources__roots="[]", **HERE) as daemon:
            daemon.ready()
        site.ask(lambda c: table.add(c, _queued(clip, listener.url())))
        site.ask(lambda c: table.cancel(c, None, "k"))
        with site.daemon(**HERE):
            [call] = listener.wait_for(1)
            assert Report.model_validate_json(call.body).error is not None
            ended(site, "k", "done")


def _queued(clip: Clip, url: str) -> table.NewJob:
    errand = errands.NewErrand("E" * 26, "callback", "failed", {"url": url})
    return table.NewJob("k", "default", "k", str(clip.path), "k", 1, "{}", errands=(errand,))


def test_kill_9_loses_no_callback(site: Site, clip: Clip) -> None:
    """Killed five times while it calls, each time at another place; then let be."""
    places = [
        'before(Webhooks, "_post", die)',
        'after(errands, "claim", die, calls=1, only=lambda c, owner, *rest: bool(claimed(c)))',
        'before(errands, "finish", die)',
        'before(errands, "put_back", die)',
        'after(lease, "complete", die)',
    ]
    prelude = (
        "from sqlalchemy import text\n"
        "from daemon.jobs import errands, lease\n"
        "from daemon.owed.webhook import Webhooks\n"
        "def claimed(c): return c.execute(text(\"select 1 from errands where state = 'due'\")).first()\n"
    )

    def busy_first(call: Call, handler: Any) -> int:
        put_back = call.path == "/3" and sum(other.path == "/3" for other in listener.calls) == 1
        return 500 if put_back else 200

    with listening(busy_first) as listener:
        for number, place in enumerate(places):
            site.drop(job_of(clip.path, listener.url(f"/{number}"), id=str(number)), f"{number}.json")
            with site.daemon(f"{prelude}{place}\n", **HERE) as daemon:
                daemon.killed()
        with site.daemon(**HERE) as daemon:
            for number in range(len(places)):
                ended(site, str(number), "done")
            assert daemon.metrics().get('thumbd_owed_finished_total{kind="callback",outcome="failed"}', 0) == 0
    assert {call.path for call in listener.calls} == {f"/{number}" for number in range(len(places))}
