"""Those who run jobs, on real databases: fair, fenced, and never in doubt about who holds a job."""

import json
import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep
from typing import Any

import pytest
from ledger import LEASE, NOT_YET, OVER, POLICY, Ledger, cost, failed, report, settle
from sqlalchemy import text

from daemon.database import open_engine
from daemon.errors import Failure
from daemon.jobs import lease, table
from daemon.jobs.retry import Again, History
from daemon.jobs.row import Held, Publication, Settled
from daemon.report import Report
from daemon.tables import COMPLETED, PUBLISHING, QUEUED, RUNNING


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    engine = open_engine(database_url)
    yield Ledger(engine)
    engine.dispose()


# Whose turn it is.


def test_claims_follow_the_order_of_arrival(ledger: Ledger) -> None:
    for key in ("k1", "k2", "k3"):
        ledger.add(key)
    assert [ledger.claim() for _ in range(4)] == [[["k1"]], [["k2"]], [["k3"]], []]


def test_priorities_order_one_organisation(ledger: Ledger) -> None:
    for key, priority in (("low", 2), ("normal", 1), ("high", 0)):
        ledger.add(key, priority=priority)
    assert [ledger.claim() for _ in range(3)] == [[["high"]], [["normal"]], [["low"]]]


def test_priorities_never_order_two_organisations(ledger: Ledger) -> None:
    for n in range(4):
        ledger.add(f"pushy{n}", org="pushy", priority=0)
    ledger.add("modest", org="modest", priority=2)
    assert [["modest"]] in [ledger.claim() for _ in range(2)]


def test_one_job_waits_for_one_job_of_each_other_organisation(ledger: Ledger) -> None:
    ledger.add_many(5000, "big")
    ledger.add_many(5000, "huge")
    ledger.add_many(1, "small", run_at=1.0)
    assert [["small000000"]] in [ledger.claim() for _ in range(3)]


def test_many_slots_are_shared_out(ledger: Ledger) -> None:
    for org in ("one", "two", "three"):
        ledger.add_many(50, org)
    claimed = [key for batch in ledger.claim(slots=6) for key in batch]
    assert Counter(key.rstrip("0123456789") for key in claimed) == {"one": 2, "two": 2, "three": 2}


def test_what_runs_already_counts(ledger: Ledger) -> None:
    ledger.add_many(10, "one")
    ledger.claim("a", slots=3)
    ledger.add_many(10, "two", run_at=1.0)
    claimed = [key for batch in ledger.claim("b", slots=3) for key in batch]
    assert claimed == ["two000000", "two000001", "two000002"]


def test_nothing_is_claimed_before_its_time(ledger: Ledger) -> None:
    held = ledger.hold("k")
    ledger(lease.put_back, held, Again(NOT_YET, History()))
    ledger.add("k2")
    assert [ledger.claim() for _ in range(2)] == [[["k2"]], []]
    ledger.change("k", run_at=ledger.clock() - 1)
    assert ledger.claim() == [["k"]]


def test_a_claim_raises_the_token_and_says_how_long_it_waited(ledger: Ledger) -> None:
    ledger.add("k", id="poster", org="one", source="/media/film", destination="orgs/one/poster")
    ledger.change("k", run_at=ledger.clock() - 7, failures=1, deaths=2, lost_starts=3)
    held = ledger.hold_again()
    assert held == Held(
        "k", 1, "one", "poster", "/media/film", "orgs/one/poster", "{}", False, held.queued_seconds, History(1, 2, 3)
    )
    assert 7 <= held.queued_seconds < 12
    assert held.staging == "k.1"
    ledger(lease.put_back, held, Again(0, History()))
    assert ledger.hold_again().token == 2


def test_a_claim_forgets_the_progress_of_the_attempt_before(ledger: Ledger) -> None:
    held = ledger.hold("k")
    ledger(lease.heartbeat, "a", LEASE, {"k": (3, 7)})
    ledger(lease.put_back, held, Again(0, History()))
    ledger.hold_again()
    assert (ledger.row("k").pictures_made, ledger.row("k").pictures_in_all) == (0, 0)


# Caps.


def test_caps_hold(ledger: Ledger) -> None:
    ledger.add_many(10, "capped")
    ledger.add_many(2, "free", run_at=1.0)
    caps = {"capped": 3}
    claimed = [ledger.claim(caps=caps) for _ in range(7)]
    assert Counter(batch[0][0][:4] for batch in claimed if batch) == {"capp": 3, "free": 2}
    ledger.complete(Held("capped000000", 1, "capped", "0", "", "0", "{}", False, 0, History()))
    assert ledger.claim(caps=caps) == [["capped000003"]]
    assert ledger.claim(caps=caps) == []


def test_a_cap_of_nothing_stops_an_organisation(ledger: Ledger) -> None:
    ledger.add("k", org="stopped")
    assert ledger.claim(caps={"stopped": 0}) == []


@pytest.mark.parametrize(
    "slots",
    [1, 4],
)
def test_riders_count_towards_the_cap(ledger: Ledger, slots: int) -> None:
    ledger.add("k0", org="capped", source="/media/one")
    for n in range(1, 4):
        ledger.add(f"k{n}", org="capped")
    for n in range(4, 9):
        ledger.add(f"k{n}", org="capped", source="/media/one")
    claimed = ledger.claim(slots=slots, riders=64, caps={"capped": 5})
    assert claimed == [["k0", "k4", "k5", "k6", "k7"]]
    assert ledger(table.running_by_org) == {"capped": 5}


def test_caps_and_single_claims_hold_for_many_at_once(database_url: str, ledger: Ledger) -> None:
    """Two processes of two threads each, until nothing is left."""
    caps, count = {"capped": 3, "free": 1000}, 40
    ledger.add_many(count, "capped", source="/media/one")
    ledger.add_many(count, "free")
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=work_off, args=(database_url, f"process{n}", caps, ready, found)) for n in range(2)
    ]
    for process in processes:
        process.start()
    told = [found.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    claimed = Counter(key for keys, _ in told for key in keys)
    assert len(claimed) == 2 * count and set(claimed.values()) == {1}
    assert max(most for _, most in told) <= caps["capped"]
    assert ledger(table.counts) == {COMPLETED: 2 * count}


def work_off(url: str, name: str, caps: dict[str, int], ready: Any, found: Any) -> None:
    """In a process of its own: claims and completes what there is. Tells the keys, and the most that ran of one."""
    engine = open_engine(url)
    keys: list[str] = []
    most: list[int] = [0]

    def claimer(number: int) -> None:
        ledger = Ledger(engine)
        while ledger(table.counts).get(QUEUED):
            with engine.begin() as connection:
                batches = lease.claim(connection, f"{name}.{number}", 1, 2, LEASE, caps)
                most.append(table.running_by_org(connection).get("capped", 0))
            for held in (held for batch in batches for held in batch):
                keys.append(held.key)
                ledger.complete(held)
            if not batches:
                sleep(0.002)

    ready.wait()
    with ThreadPoolExecutor(2) as claimers:
        list(claimers.map(claimer, range(2)))
    engine.dispose()
    found.put((keys, max(most)))


# Riders.


def test_jobs_on_the_same_source_ride_along(ledger: Ledger) -> None:
    ledger.add("lead", source="/media/film")
    ledger.add("other", source="/media/other")
    ledger.add("elsewhere", source="/media/film", org="other")
    ledger.add("low", source="/media/film", priority=2)
    ledger.add("high2", source="/media/film", priority=1)
    assert ledger.claim(riders=64) == [["lead", "high2", "low"]]
    assert ledger.row("low").token == 1


def test_no_more_ride_than_are_allowed(ledger: Ledger) -> None:
    ledger.add_many(10, "one", source="/media/film")
    assert [len(batch) for batch in ledger.claim(riders=3)] == [4]
    assert [len(batch) for batch in ledger.claim(riders=0)] == [1]


def test_no_suspect_rides_and_none_is_ridden_with(ledger: Ledger) -> None:
    for key in ("k1", "k2", "k3"):
        ledger.add(key, source="/media/film")
    ledger.change("k2", suspect=True)
    assert ledger.claim("a", riders=64) == [["k1", "k3"]]
    assert ledger.claim("b", riders=64) == [["k2"]]


def test_nobody_rides_before_its_time(ledger: Ledger) -> None:
    ledger.add("k1", source="/media/film")
    ledger.add("k2", source="/media/film")
    ledger.change("k2", run_at=ledger.clock() + NOT_YET)
    assert ledger.claim(riders=64) == [["k1"]]


# Suspects.


def test_a_suspect_waits_until_its_owner_runs_nothing_else_and_others_wait_for_it(ledger: Ledger) -> None:
    running = ledger.hold("first")
    ledger.add("suspect")
    ledger.change("suspect", suspect=True)
    ledger.add("after")
    assert ledger.claim("a", slots=4) == []
    ledger.complete(running)
    assert ledger.claim("a", slots=4) == [["suspect"]]
    assert ledger.claim("a", slots=4) == []


def test_other_owners_go_on_beside_a_suspect(ledger: Ledger) -> None:
    ledger.add("suspect")
    ledger.change("suspect", suspect=True)
    ledger.add("after")
    assert ledger.claim("a") == [["suspect"]]
    assert ledger.claim("b") == [["after"]]


# What a claim costs.


@pytest.mark.parametrize("source", [None, "/media/one"], ids=["many sources", "one source"])
@pytest.mark.parametrize("what", ["due", "later"])
def test_a_claim_costs_the_same_however_long_a_queue_is(ledger: Ledger, source: str | None, what: str) -> None:
    costs = []
    for count in (100, 20_000):
        with ledger.engine.begin() as connection:
            connection.execute(text("DELETE FROM jobs"))
        ledger.add_many(count, "big", source, run_at=0.0 if what == "due" else ledger.clock() + NOT_YET)
        ledger.add_many(1, "small", run_at=1.0)
        settle(ledger.engine)
        with ledger.engine.begin() as connection:
            costs.append(cost(connection, lambda c: lease.claim(c, "a", 1, 64, LEASE, {})))
    assert costs[1] < 1.5 * costs[0]


# Fencing.


def test_whoever_lost_a_job_changes_nothing(ledger: Ledger) -> None:
    old = ledger.hold("k", owner="a", seconds=OVER)
    assert ledger(lease.take_over, "b", [], LEASE, POLICY).queued == 1
    held = ledger.hold_again("b")
    before = ledger.row("k")
    assert ledger(lease.start, [old]) == []
    assert ledger(lease.publishing, old, report(old)) == "lost"
    assert ledger(lease.fail, old, failed(old)) is None
    assert ledger(lease.put_back, old, Again(0, History())) is False
    assert ledger(lease.complete, Publication(old.key, old.token, old.staging, old.destination)) is None
    assert ledger(lease.heartbeat, "a", LEASE, {"k": (5, 5)}) == (set(), set())
    assert ledger(lease.release, "a") == 0
    assert ledger.row("k") == before
    assert ledger(lease.start, [held]) == [held]


@pytest.mark.parametrize("end", ["put_back", "complete", "fail", "release"])
def test_what_is_over_is_not_held_any_more(ledger: Ledger, end: str) -> None:
    held = ledger.hold("k")
    ledger(lease.start, [held])
    match end:
        case "put_back":
            ledger(lease.put_back, held, Again(0, History()))
        case "complete":
            ledger.complete(held)
        case "fail":
            ledger(lease.fail, held, failed(held))
        case "release":
            ledger(lease.release, "a")
    before = ledger.row("k")
    assert ledger(lease.publishing, held, report(held)) == "lost"
    assert ledger(lease.fail, held, failed(held)) is None
    assert ledger(lease.put_back, held, Again(0, History())) is False
    assert ledger(lease.complete, Publication(held.key, held.token, held.staging, held.destination)) is None
    assert ledger(lease.start, [held]) == []
    assert ledger.row("k") == before


def test_past_the_point_of_no_return_there_is_only_one_way(ledger: Ledger) -> None:
    held = ledger.hold("k")
    publication = ledger.publish(held)
    assert ledger(lease.fail, held, failed(held)) is None
    assert ledger(lease.put_back, held, Again(0, History())) is False
    assert ledger(lease.release, "a") == 0
    # Asked once more, for the answer may have been lost on its way.
    assert ledger(lease.publishing, held, report(held)) == "go"
    assert ledger(lease.publishing, replace(held, token=held.token + 1), report(held)) == "lost"
    assert ledger.state("k") == PUBLISHING
    assert ledger(lease.complete, publication)
    assert ledger(lease.complete, publication) is None
    row = ledger.row("k")
    assert (row.state, row.owner, row.lease_until, row.staging) == (COMPLETED, None, None, None)
    assert row.ended_at == pytest.approx(ledger.clock(), abs=5)
    assert ledger(lease.publishing, held, report(held)) == "lost"


def test_what_an_owner_does_not_know_of_is_given_back(ledger: Ledger) -> None:
    """The answer to a claim was lost after it was committed."""
    for key in ("known", "unknown"):
        ledger.hold(key)
    ledger.hold("other", owner="b")
    assert ledger(lease.give_back_unknown, "a", ["known"]) == 1
    assert [ledger.state(key) for key in ("known", "unknown", "other")] == [RUNNING, QUEUED, RUNNING]
    assert ledger.row("unknown").owner is None
    again = ledger.hold_again("c")
    assert (again.key, again.token, again.history) == ("unknown", 2, History())


def test_a_start_is_counted_and_says_what_is_still_held(ledger: Ledger) -> None:
    for key in ("k1", "k2"):
        ledger.add(key, source="/media/film")
    (batch,) = ledger(lease.claim, "a", 1, 1, LEASE, {})
    ledger(lease.put_back, batch[0], Again(0, History()))
    assert ledger(lease.start, batch) == [batch[1]]
    assert (ledger.row("k1").starts, ledger.row("k2").starts, ledger.row("k2").started) == (0, 1, True)
    assert ledger(lease.start, []) == []


# The heart.


def test_a_heartbeat_renews_and_tells(ledger: Ledger) -> None:
    for key in ("k1", "k2", "k3"):
        ledger.hold(key)
    ledger.hold("theirs", owner="b")
    ledger.change("k2", lease_until=0.0)
    before = ledger.row("theirs")
    assert ledger(lease.heartbeat, "a", 60.0, {"k1": (2, 9)}) == ({"k1", "k2", "k3"}, set())
    assert (ledger.row("k1").pictures_made, ledger.row("k1").pictures_in_all) == (2, 9)
    assert ledger.row("k2").lease_until == pytest.approx(ledger.clock() + 60, abs=5)
    assert ledger.row("theirs") == before


def test_a_heartbeat_says_what_was_cancelled_and_what_was_lost(ledger: Ledger) -> None:
    lost = ledger.hold("lost")
    ledger.hold("unwanted")
    ledger(table.cancel, None, "unwanted")
    ledger(lease.put_back, lost, Again(NOT_YET, History()))
    assert ledger(lease.heartbeat, "a", LEASE, {"lost": (1, 1)}) == ({"unwanted"}, {"unwanted"})
    assert ledger.row("lost").pictures_made == 0


def test_a_publication_is_kept_alive_too(ledger: Ledger) -> None:
    ledger.publish(ledger.hold("k", seconds=OVER))
    assert ledger(lease.heartbeat, "a", LEASE, {}) == ({"k"}, set())
    assert ledger(lease.take_over, "b", [], LEASE, POLICY).publications == ()


# Publishing.


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        ("film", "film", "wait"),
        ("film", "film/posters", "wait"),
        ("film/posters", "film", "wait"),
        ("film/a/b", "film", "wait"),
        ("film", "films", "go"),
        ("film/a", "film/b", "go"),
        ("orgs/one/film", "film", "go"),
    ],
)
def test_nobody_publishes_into_a_folder_that_somebody_publishes(
    ledger: Ledger, first: str, second: str, answer: str
) -> None:
    one, other = ledger.hold("k1", destination=first), ledger.hold("k2", destination=second)
    publication = ledger.publish(one)
    assert ledger(lease.publishing, other, report(other)) == answer
    ledger(lease.complete, publication)
    if answer == "wait":
        assert ledger(lease.publishing, other, report(other)) == "go"


def test_two_at_once_cannot_both_publish_to_one_folder(ledger: Ledger) -> None:
    held = [ledger.hold(f"k{n}", destination="film") for n in range(6)]
    gate = threading.Barrier(len(held))

    def publish(each: Held) -> str:
        with ledger.engine.connect():
            gate.wait()
        return ledger(lease.publishing, each, report(each))

    with ThreadPoolExecutor(len(held)) as threads:
        assert sorted(threads.map(publish, held)) == ["go"] + ["wait"] * 5


def test_a_publication_says_what_is_published(ledger: Ledger) -> None:
    held = ledger.hold("k")
    ledger.publish(held)
    row = ledger.row("k")
    assert (row.state, row.staging, json.loads(row.report)["status"]) == (PUBLISHING, "k.1", "completed")


# The end.


@pytest.mark.parametrize("report_to", [None, "k.json"])
def test_whoever_ends_a_job_hears_whether_a_report_is_due(ledger: Ledger, report_to: str | None) -> None:
    def settled(key: str) -> Settled:
        known = ledger(table.get, None, key)
        assert known is not None
        return Settled(known, reports=report_to is not None, errands=False)

    assert ledger(lease.complete, ledger.publish(ledger.hold("done", report_to=report_to))) == settled("done")
    held = ledger.hold("bad", report_to=report_to)
    assert ledger(lease.fail, held, failed(held)) == settled("bad")
    publication = ledger.publish(ledger.hold("late", report_to=report_to))
    assert ledger(lease.withdraw, publication, Failure("no")) == settled("late")


# Taking over.


def test_the_jobs_of_an_owner_that_is_gone_run_again_at_once(ledger: Ledger) -> None:
    ledger.hold("k")
    ledger.hold("theirs", owner="b")
    taken = ledger(lease.take_over, "c", ["a"], LEASE, POLICY)
    assert (taken.queued, taken.failed, taken.publications) == (1, 0, ())
    row = ledger.row("k")
    assert (row.state, row.owner, row.lease_until, row.suspect) == (QUEUED, None, None, False)
    assert (row.failures, row.deaths, row.lost_starts) == (0, 0, 0)
    assert ledger.state("theirs") == RUNNING
    assert ledger.claim("c") == [["k"]]


def test_jobs_whose_lease_ran_out_run_again(ledger: Ledger) -> None:
    ledger.hold("k", seconds=OVER)
    assert ledger(lease.take_over, "b", [], LEASE, POLICY).queued == 1
    assert ledger(lease.take_over, "b", [], LEASE, POLICY).queued == 0


def test_a_start_without_an_outcome_makes_a_suspect(ledger: Ledger) -> None:
    held = ledger.hold("k")
    ledger(lease.start, [held])
    assert ledger(lease.take_over, "b", ["a"], LEASE, POLICY).queued == 1
    row = ledger.row("k")
    assert (row.suspect, row.started, row.lost_starts) == (True, False, 0)
    assert ledger.hold_again("b").suspect


def test_five_starts_alone_without_an_outcome_are_the_end(ledger: Ledger) -> None:
    ledger.add("k", report_to="k.json")
    ledger.change("k", suspect=True)
    for lost in range(1, POLICY.lost_starts + 1):
        ledger(lease.start, [ledger.hold_again("a")])
        taken = ledger(lease.take_over, "b", ["a"], LEASE, POLICY)
        assert (taken.queued, taken.failed) == ((1, 0) if lost < POLICY.lost_starts else (0, 1))
    (owed,) = ledger(table.owed, 10)
    error = Report.model_validate_json(owed.report).error
    assert owed.failed and error is not None and error.code == "worker_died"
    assert ledger.claim("b") == []


def test_a_suspect_that_was_claimed_and_not_started_is_not_charged(ledger: Ledger) -> None:
    ledger.add("k")
    ledger.change("k", suspect=True, lost_starts=4)
    ledger.hold_again("a")
    assert ledger(lease.take_over, "b", ["a"], LEASE, POLICY).queued == 1
    assert (ledger.row("k").lost_starts, ledger.row("k").suspect) == (4, True)


def test_a_publication_is_handed_to_whoever_takes_over(ledger: Ledger) -> None:
    publication = ledger.publish(ledger.hold("k"))
    assert ledger(lease.take_over, "b", ["a"], LEASE, POLICY).publications == (publication,)
    assert (ledger.row("k").owner, ledger.state("k")) == ("b", PUBLISHING)
    assert ledger(lease.take_over, "c", ["a"], LEASE, POLICY).publications == ()
    assert ledger(lease.complete, publication)


def test_two_that_take_over_at_once_share_nothing(ledger: Ledger) -> None:
    for n in range(20):
        held = ledger.hold(f"k{n:02}")
        if n % 2:
            ledger.publish(held)
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda by: ledger(lease.take_over, by, ["a"], LEASE, POLICY), "bcde"))
    assert sum(each.queued for each in taken) == 10
    assert len({p.key for each in taken for p in each.publications}) == 10
    assert sum(len(each.publications) for each in taken) == 10


def test_a_drain_gives_back_uncharged(ledger: Ledger) -> None:
    held = ledger.hold("k", seconds=LEASE)
    ledger.change("k", failures=1, deaths=1, lost_starts=2)
    ledger(lease.start, [held])
    ledger.hold("theirs", owner="b")
    assert ledger(lease.release, "a") == 1
    row = ledger.row("k")
    assert (row.state, row.owner, row.started, row.suspect) == (QUEUED, None, False, False)
    assert (row.failures, row.deaths, row.lost_starts) == (1, 1, 2)
    assert ledger.state("theirs") == RUNNING
    assert ledger.claim("b") == [["k"]]
