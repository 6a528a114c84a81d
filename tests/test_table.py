"""Those who bring jobs, ask for them and clear them away, on real databases: each job once, and no report lost."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import pytest
from ledger import LEASE, POLICY, Ledger, cost, failed, report, settle
from sqlalchemy import Connection, text

from daemon.database import open_engine
from daemon.errors import Cancelled
from daemon.jobs import lease, table
from daemon.jobs.retry import Again, History
from daemon.jobs.row import Held
from daemon.report import Report
from daemon.tables import COMPLETED, FAILED, PUBLISHING, QUEUED, RUNNING


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    engine = open_engine(database_url)
    yield Ledger(engine)
    engine.dispose()


# Coming in.


def test_a_job_comes_in_once(ledger: Ledger) -> None:
    assert ledger.add("k") is True
    assert ledger.add("k") is False
    assert ledger(table.counts) == {QUEUED: 1}


def test_the_same_id_of_one_organisation_is_one_job(ledger: Ledger) -> None:
    assert ledger.add("k1", id="poster", org="one") is True
    assert ledger.add("k2", id="poster", org="one", source="/media/other") is False
    assert ledger.add("k3", id="poster", org="two") is True
    assert ledger(table.counts) == {QUEUED: 2}
    assert ledger.row("k1").source == "/media/k1"


def test_a_file_that_changed_under_its_key_is_the_job_that_came_first(ledger: Ledger) -> None:
    """Whoever drops a file may still write to it: what is read after a crash may have another id."""
    ledger.add("k", id="first", report_to="a.json")
    assert ledger.add("k", id="second", report_to="a.json") is False
    assert ledger(table.counts) == {QUEUED: 1}
    assert ledger.row("k").id == "first"


def test_every_name_that_asked_gets_the_report(ledger: Ledger) -> None:
    ledger.add("k1", id="poster", report_to="b.json")
    ledger.add("k2", id="poster", report_to="a.json")
    ledger.add("k3", id="poster", report_to="b.json")
    ledger.add("k4", id="poster")
    assert json.loads(ledger.row("k1").reports_to) == ["a.json", "b.json"]
    assert ledger.row("k1").report_due == False  # noqa: E712  a whole number in SQLite


def test_what_comes_again_after_its_end_is_owed_the_report_at_once(ledger: Ledger) -> None:
    ledger.complete(ledger.hold("k"))
    assert ledger(table.owed, 10) == []
    ledger.add("k2", id="k", report_to="again.json")
    (owed,) = ledger(table.owed, 10)
    assert (owed.key, owed.names, owed.failed) == ("k", ("again.json",), False)


def test_a_new_job_is_due_and_untouched(ledger: Ledger) -> None:
    ledger.add("k", priority=2)
    row = ledger.row("k")
    assert (row.state, row.token, row.owner, row.failures, row.priority) == (QUEUED, 0, None, 0, 2)
    assert abs(row.run_at - ledger.clock()) < 5


# Cancelling and running again.


def test_a_queued_job_is_cancelled_at_once(ledger: Ledger) -> None:
    ledger.add("k", report_to="k.json")
    assert ledger(table.cancel, None, "k") == QUEUED
    (owed,) = ledger(table.owed, 10)
    error = Report.model_validate_json(owed.report).error
    assert owed.failed and error is not None and error.code == Cancelled.code
    assert ledger.claim() == []


def test_a_running_job_is_asked_to_stop(ledger: Ledger) -> None:
    held = ledger.hold("k")
    assert ledger(table.cancel, None, "k") == RUNNING
    assert ledger.state("k") == RUNNING
    assert ledger(lease.heartbeat, "a", LEASE, {}) == ({"k"}, {"k"})
    assert ledger(lease.fail, held, failed(held))


@pytest.mark.parametrize("meanwhile", ["nothing", "put back", "released", "taken over"])
def test_a_job_that_was_cancelled_is_never_completed(ledger: Ledger, meanwhile: str) -> None:
    """The answer was "cancelled": however quick the job is, and whatever happens to its owner."""
    held = ledger.hold("k")
    ledger(table.cancel, None, "k")
    match meanwhile:
        case "put back":
            ledger(lease.put_back, held, Again(0, History()))
        case "released":
            ledger(lease.release, "a")
        case "taken over":
            ledger(lease.take_over, "b", ["a"], LEASE, POLICY)
    if meanwhile != "nothing":
        held = ledger.hold_again()
    assert ledger(lease.publishing, held, report(held)) == "cancelled"
    assert ledger(lease.fail, held, failed(held))


def test_what_is_over_stays_as_it_is(ledger: Ledger) -> None:
    ledger.complete(ledger.hold("done"))
    held = ledger.hold("bad")
    ledger(lease.fail, held, failed(held))
    before = [ledger.row("done"), ledger.row("bad")]
    assert [ledger(table.cancel, None, id) for id in ("done", "bad", "none")] == [COMPLETED, FAILED, None]
    assert [ledger.row("done"), ledger.row("bad")] == before


def test_a_publication_cannot_be_cancelled(ledger: Ledger) -> None:
    publication = ledger.publish(ledger.hold("k"))
    assert ledger(table.cancel, None, "k") == PUBLISHING
    assert ledger(lease.complete, publication)


def test_a_failed_job_can_be_run_again_as_if_it_were_new(ledger: Ledger) -> None:
    held = ledger.hold("k", report_to="k.json")
    ledger.change("k", failures=3, deaths=2, lost_starts=4, suspect=True)
    ledger(lease.fail, held, failed(held))
    assert ledger(table.retry, None, "k") == FAILED
    row = ledger.row("k")
    assert (row.state, row.failures, row.deaths, row.lost_starts, row.suspect) == (QUEUED, 0, 0, 0, False)
    assert (row.report, row.ended_at, row.report_due, row.cancelled) == (None, None, False, False)
    again = ledger.hold_again()
    assert again.token == 2
    ledger.complete(again)
    assert [owed.names for owed in ledger(table.owed, 10)] == [("k.json",)]


def test_a_cancelled_job_can_be_run_again(ledger: Ledger) -> None:
    ledger.add("k")
    ledger(table.cancel, None, "k")
    ledger(table.retry, None, "k")
    ledger.hold_again()
    assert ledger(lease.heartbeat, "a", LEASE, {}) == ({"k"}, set())


@pytest.mark.parametrize("state", [QUEUED, RUNNING, PUBLISHING, COMPLETED])
def test_only_failed_jobs_are_run_again(ledger: Ledger, state: str) -> None:
    ledger.add("k")
    if state != QUEUED:
        held = ledger.hold_again()
    if state in (PUBLISHING, COMPLETED):
        publication = ledger.publish(held)
    if state == COMPLETED:
        ledger(lease.complete, publication)
    before = ledger.row("k")
    assert ledger(table.retry, None, "k") == state
    assert ledger.row("k") == before
    assert ledger(table.retry, None, "none") is None


def test_organisations_do_not_see_each_other(ledger: Ledger) -> None:
    ledger.add("k", org="one")
    assert ledger(table.cancel, "two", "k") is None
    assert ledger(table.retry, "two", "k") is None
    assert ledger(table.get, "two", "k") is None
    assert ledger(table.cancel, "one", "k") == QUEUED


@pytest.mark.parametrize("verb", [table.cancel, table.retry])
def test_a_verb_by_hand_never_overrules_what_happened_meanwhile(ledger: Ledger, verb: Any) -> None:
    """Two connections: what the first one saw must still be so when it writes."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time from the first statement on")
    held = ledger.hold("k")
    if verb is table.cancel:
        ledger(lease.put_back, held, Again(0, History()))
    else:
        ledger(lease.fail, held, failed(held))
    with ledger.engine.begin() as connection, ThreadPoolExecutor(1) as other:
        state = table.get(connection, None, "k")
        assert state is not None
        if verb is table.cancel:
            lease.claim(connection, "b", 1, 0, LEASE, {})
        else:
            table.retry(connection, None, "k")
            lease.claim(connection, "b", 1, 0, LEASE, {})
        waiting = other.submit(ledger, verb, None, "k")
        sleep(0.2)
        connection.commit()
        waiting.result()
    assert ledger.state("k") == RUNNING


# Asking.


def test_the_newest_are_listed_first(ledger: Ledger) -> None:
    for key in ("k1", "k2", "k3"):
        ledger.add(key)
    ledger(table.cancel, None, "k3")
    assert [known.key for known in ledger(table.latest, 2)] == ["k3", "k2"]
    assert [known.key for known in ledger(table.latest, 9, (QUEUED,))] == ["k2", "k1"]


def test_a_page_ends_where_its_reports_are_long(ledger: Ledger) -> None:
    for key in ("k1", "k2", "k3"):
        ledger.add(key, org="one")
    ledger.add("k4", org="two")
    for key in ("k2", "k3"):
        ledger(table.cancel, "one", key)
    length = len(ledger(table.get_by_key, "k3").told)

    def page(most: int, letters: int, states: tuple[str, ...] = (), before: str | None = None) -> tuple[str, bool]:
        found, more = ledger(table.page, most, letters, states, "one", before)
        return " ".join(known.key for known in found), more

    assert page(9, 2 * length) == ("k3 k2 k1", False)
    assert page(3, 2 * length) == ("k3 k2 k1", False)
    assert page(2, 2 * length) == ("k3 k2", True)
    assert page(9, 2 * length - 1) == ("k3", True)
    assert page(9, 0) == ("k3", True)
    assert page(9, 0, before="k3") == ("k2", True)
    assert page(9, 0, before="k2") == ("k1", False)
    assert page(9, 0, (QUEUED,)) == ("k1", False)


def test_what_is_known_of_a_job(ledger: Ledger) -> None:
    ledger.add("k", id="poster", org="one")
    known = ledger(table.get, "one", "poster")
    assert known is not None and known.report == Report(id="poster", org="one", status="pending")
    ledger.hold_again()
    ledger(lease.heartbeat, "a", LEASE, {"k": (3, 4)})
    known = ledger(table.get, None, "poster")
    assert known is not None and known.report.status == "processing"
    assert (known.pictures_made, known.pictures_in_all, known.attempt, known.state) == (3, 4, 1, RUNNING)
    assert known.created_at == pytest.approx(ledger.clock(), abs=5)


@pytest.mark.parametrize("completed", [True, False])
def test_the_report_is_what_was_given(ledger: Ledger, completed: bool) -> None:
    held = ledger.hold("k")
    if completed:
        ledger.complete(held)
    else:
        ledger(lease.fail, held, failed(held))
    known = ledger(table.get, None, "k")
    assert known is not None
    assert known.report == Report.model_validate_json(report(held) if completed else failed(held))


def test_a_publication_is_still_being_processed(ledger: Ledger) -> None:
    ledger.publish(ledger.hold("k"))
    known = ledger(table.get, None, "k")
    assert known is not None and known.report.status == "processing"


def test_how_many_and_how_old(ledger: Ledger) -> None:
    assert (ledger(table.counts), ledger(table.oldest_queued), ledger(table.running_by_org)) == ({}, None, {})
    ledger.hold("k1", org="one")
    ledger.add("k2", org="two")
    ledger.change("k2", created_at=123.0)
    assert ledger(table.counts) == {QUEUED: 1, RUNNING: 1}
    assert ledger(table.oldest_queued) == 123.0
    assert ledger(table.running_by_org) == {"one": 1}


# What is owed.


def test_a_report_is_owed_until_it_was_written(ledger: Ledger) -> None:
    held = ledger.hold("k", report_to="k.json")
    assert ledger(table.owed, 10) == []
    ledger.complete(held)
    owed = ledger(table.owed, 10)
    assert [(each.id, each.names, each.failed) for each in owed] == [("k", ("k.json",), False)]
    assert Report.model_validate_json(owed[0].report).status == "completed"
    ledger(table.reported, owed)
    assert ledger(table.owed, 10) == []


def test_a_name_that_came_while_the_report_was_written_is_still_owed(ledger: Ledger) -> None:
    ledger.complete(ledger.hold("k", report_to="b.json"))
    owed = ledger(table.owed, 10)
    ledger.add("k2", id="k", report_to="a.json")
    ledger(table.reported, owed)
    (still,) = ledger(table.owed, 10)
    assert still.names == ("a.json", "b.json")
    ledger(table.reported, [still])
    assert ledger(table.owed, 10) == []


def test_a_report_of_before_does_not_pay_for_the_one_after_a_retry(ledger: Ledger) -> None:
    held = ledger.hold("k", report_to="k.json")
    ledger(lease.fail, held, failed(held))
    owed = ledger(table.owed, 10)
    ledger(table.retry, None, "k")
    ledger.complete(ledger.hold_again())
    ledger(table.reported, owed)
    (still,) = ledger(table.owed, 10)
    assert not still.failed


def test_nobody_asked_nothing_owed(ledger: Ledger) -> None:
    ledger.complete(ledger.hold("k"))
    assert ledger(table.owed, 10) == []


def test_the_oldest_debts_come_first(ledger: Ledger) -> None:
    for n, key in enumerate(("k1", "k2", "k3")):
        ledger.complete(ledger.hold(key, report_to=f"{key}.json"))
        ledger.change(key, ended_at=100.0 - n)
    assert [each.key for each in ledger(table.owed, 2)] == ["k3", "k2"]


# What is asked often.


ASKED_OFTEN: dict[str, Callable[[Connection], Any]] = {
    "owed": lambda c: table.owed(c, 100),
    "take_over": lambda c: lease.take_over(c, "b", ["a"], LEASE, POLICY),
    "heartbeat": lambda c: lease.heartbeat(c, "a", LEASE, {"big000001": (1, 2)}),
    "publishing": lambda c: lease.publishing(c, Held("x", 1, "", "", "", "d", "", False, 0, History()), ""),
    "stagings_over": lambda c: table.stagings_over(c, ["big000001.1", "none.2"]),
    "forget": lambda c: table.forget(c, 0.0),
    "get": lambda c: table.get(c, "big", "7"),
    "latest": lambda c: table.latest(c, 20),
}


def test_what_is_asked_often_does_not_look_at_every_job(ledger: Ledger) -> None:
    costs: dict[str, list[int]] = {name: [] for name in ASKED_OFTEN}
    for count in (100, 20_000):
        with ledger.engine.begin() as connection:
            connection.execute(text("DELETE FROM jobs"))
        ledger.add_many(count, "big")
        settle(ledger.engine)
        with ledger.engine.begin() as connection:
            for name, verb in ASKED_OFTEN.items():
                costs[name].append(cost(connection, verb))
    assert {name: cost for name, cost in costs.items() if cost[1] > 1.5 * cost[0] + 5} == {}


# Cleaning up.


def test_stagings_of_attempts_that_are_over(ledger: Ledger) -> None:
    running, again = ledger.hold("running"), ledger.hold("again")
    ledger(lease.put_back, again, Again(0, History()))
    again = ledger.hold_again()
    publishing = ledger.hold("publishing")
    ledger.publish(publishing)
    ledger.complete(ledger.hold("done"))
    ledger.add("queued")
    names = [
        *(held.staging for held in (running, again, publishing)),
        *("again.1", "running.0", "done.1", "queued.1", "queued", "unknown.1", "once-01", ""),
    ]
    assert ledger(table.stagings_over, names) == {"again.1", "running.0", "done.1", "queued.1", "queued"}
    assert ledger(table.stagings_over, []) == set()


def test_old_jobs_are_forgotten_and_no_others(ledger: Ledger) -> None:
    for key in ("old", "owing", "fresh"):
        ledger.complete(ledger.hold(key, report_to="owing.json" if key == "owing" else None))
    for key in ("old", "owing"):
        ledger.change(key, ended_at=ledger.clock() - 100)
    ledger.hold("running")
    ledger.add("queued")
    ledger.change("queued", created_at=0.0)
    assert ledger(table.forget, 50.0) == 1
    assert {known.key for known in ledger(table.latest, 9)} == {"owing", "fresh", "running", "queued"}


def test_forgetting_is_done_in_parts(ledger: Ledger) -> None:
    for key in ("k1", "k2", "k3"):
        ledger.complete(ledger.hold(key))
        ledger.change(key, ended_at=0.0)
    assert [ledger(table.forget, 50.0, 2) for _ in range(3)] == [2, 1, 0]


def test_tables_are_made_by_many_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        engines = list(threads.map(lambda _: open_engine(database_url), range(6)))
    assert [Ledger(engine)(table.counts) for engine in engines] == [{}] * 6
    for engine in engines:
        engine.dispose()
