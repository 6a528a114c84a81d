"""What jobs owe, on real databases: awake in time, held by one, and with nothing sealed left behind."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import until
from ledger import LEASE, OVER, POLICY, Verbs, new, report
from sqlalchemy import Row, select, text, update

from daemon.database import open_engine
from daemon.errors import Failure
from daemon.jobs import errands, lease, table
from daemon.jobs.errands import Errand, NewErrand
from daemon.jobs.row import Held
from daemon.tables import errands as rows
from daemon.tables import jobs

ROOM: dict[errands.Kind, int] = {"callback": 10, "delivery": 10, "expiry": 10}


def owing(key: str, kind: errands.Kind = "callback", event: errands.Event = "completed", **more: Any) -> NewErrand:
    sealed = f"sealed {key}" if kind == "delivery" else None
    return NewErrand(key, kind, event, {"of": key}, secret=sealed, **more)


class Ledger(Verbs):
    """Of errands, and of the jobs that owe them."""

    def add(self, key: str, *owed: NewErrand, org: str = "default", destination: str | None = None) -> None:
        assert self(table.add, new(key, org, destination=destination or key, errands=owed))

    def hold(self, key: str, *owed: NewErrand, **more: Any) -> Held:
        self.add(key, *owed, **more)
        return self.hold_again()

    def complete(self, key: str, *owed: NewErrand, **more: Any) -> None:
        assert self(lease.complete, self.publish(self.hold(key, *owed, **more)))

    def fail(self, key: str, *owed: NewErrand) -> None:
        held = self.hold(key, *owed)
        assert self(lease.fail, held, report(held))

    def claim(self, owner: str = "a", seconds: float = LEASE, **room: int) -> list[Errand]:
        return self(errands.claim, owner, room or ROOM, seconds)  # type: ignore[arg-type]

    def keys(self, owner: str = "a", **room: int) -> list[str]:
        return [errand.key for errand in self.claim(owner, **room)]

    def one(self, owner: str = "a", seconds: float = LEASE) -> Errand:
        [errand] = self.claim(owner, seconds)
        return errand

    def row(self, key: str) -> Row[Any]:
        with self.engine.begin() as connection:
            return connection.execute(select(rows).where(rows.c.key == key)).one()

    def states(self) -> dict[str, str]:
        with self.engine.begin() as connection:
            return {row.key: row.state for row in connection.execute(select(rows.c.key, rows.c.state))}

    def secrets(self) -> list[str]:
        with self.engine.begin() as connection:
            return list(connection.execute(select(rows.c.secret).where(rows.c.secret.is_not(None))).scalars())

    def turn_back(self, key: str, seconds: float) -> None:
        """As if it were due so many seconds earlier."""
        with self.engine.begin() as connection:
            connection.execute(update(rows).where(rows.c.key == key).values(due_at=rows.c.due_at - seconds))


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    engine = open_engine(database_url)
    yield Ledger(engine)
    engine.dispose()


# What wakes them.


def test_nothing_is_due_before_its_event(ledger: Ledger) -> None:
    owed = [
        owing("q", event="queued"),
        owing("c"),
        owing("f", event="failed"),
        owing("d", "delivery"),
        owing("e", "expiry"),
    ]
    ledger.add("k", *owed)
    assert ledger.states() == {"q": "due", "c": "dormant", "f": "dormant", "d": "dormant", "e": "dormant"}
    assert ledger.keys() == ["q"]


def test_whoever_ends_a_job_hears_whether_it_has_errands(ledger: Ledger) -> None:
    for n, owed in enumerate([(), (owing("c"),)]):
        publication = ledger.publish(ledger.hold(f"done{n}", *owed))
        settled = ledger(lease.complete, publication)
        assert settled is not None and settled.errands == bool(owed)


def test_a_job_that_completes_owes_what_goes_with_it(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"), owing("f", event="failed"), owing("e", "expiry", delay=100.0))
    assert ledger.states() == {"c": "due", "f": "dormant", "e": "due"}
    assert ledger.keys() == ["c"]
    assert ledger.row("e").due_at == pytest.approx(ledger.clock() + 100, abs=5)
    ledger.turn_back("e", 100)
    assert ledger.keys() == ["e"]


def ways_to_fail(ledger: Ledger, key: str, *owed: NewErrand) -> dict[str, Callable[[], object]]:
    def withdraw() -> None:
        assert ledger(lease.withdraw, ledger.publish(ledger.hold(key, *owed)), Failure("no"))

    def cancel() -> None:
        ledger.add(key, *owed)
        ledger(table.cancel, None, key)

    def lost() -> None:
        for _ in range(9):
            if not ledger.states():
                ledger.add(key, *owed)
            if claimed := ledger(lease.claim, "gone", 1, 0, LEASE, {}):
                ledger(lease.start, claimed[0])
                ledger(lease.take_over, "a", ["gone"], LEASE, POLICY)

    return {"fail": lambda: ledger.fail(key, *owed), "withdraw": withdraw, "cancel": cancel, "lost": lost}


@pytest.mark.parametrize("way", ["fail", "withdraw", "cancel", "lost"])
def test_a_job_that_fails_owes_only_that_and_forgets_its_secrets(ledger: Ledger, way: str) -> None:
    owed = [owing("c"), owing("f", event="failed"), owing("d", "delivery"), owing("e", "expiry")]
    ways_to_fail(ledger, "k", *owed)[way]()
    assert ledger.states() == {"c": "dormant", "f": "due", "d": "dormant", "e": "dormant"}
    assert ledger.secrets() == []
    assert ledger.keys() == ["f"]


def test_what_follows_waits_for_the_deliveries(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"), owing("e", "expiry"), owing("d1", "delivery"), owing("d2", "delivery"))
    first, second = ledger.claim()
    assert [first.key, second.key] == ["d1", "d2"]
    assert ledger(errands.finish, first, "done", None)
    assert ledger(errands.put_back, second, 0.0, "again", charged=True)
    assert ledger.keys() == ["d2"] and ledger.states()["c"] == "dormant"
    ledger(errands.release, "a")
    assert ledger(errands.finish, ledger.one(), "failed", "in vain")
    assert sorted(ledger.keys()) == ["c", "e"]


def test_deliveries_that_end_at_one_moment_wake_what_waited_for_both(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"), owing("d1", "delivery"), owing("d2", "delivery"))
    first, second = ledger.claim()
    other = threading.Thread(target=ledger, args=(errands.finish, second, "done", None))
    with ledger.engine.connect() as connection:
        with connection.begin():
            assert errands.finish(connection, first, "done", None)
            other.start()
            if ledger.engine.dialect.name == "postgresql":
                waiting = text("select 1 from pg_locks where not granted")
                with ledger.engine.connect() as watcher:
                    until(lambda: not other.is_alive() or watcher.execute(waiting).first(), "the other one waits")
        other.join()
    assert ledger.states() == {"c": "due", "d1": "done", "d2": "done"}


def test_the_end_is_not_told_before_the_beginning_was_tried(ledger: Ledger) -> None:
    ledger.complete("k", owing("q", event="queued"), owing("c"))
    assert ledger.keys(callback=1) == ["q"] and ledger.keys() == []
    ledger(errands.release, "a")
    assert ledger(errands.put_back, ledger.one(), 60.0, "not there", charged=True)
    assert ledger.keys() == ["c"]  # which does not wait for ever


def test_a_second_job_of_one_id_owes_nothing(ledger: Ledger) -> None:
    ledger.add("k", owing("q", event="queued"))
    assert not ledger(table.add, new("k2", id="k", errands=(owing("x", event="queued"),)))
    assert ledger.states() == {"q": "due"}


def test_a_job_run_again_owes_anew(ledger: Ledger) -> None:
    ledger.fail("k", owing("q", event="queued"), owing("c"), owing("f", event="failed"), owing("d", "delivery"))
    queued = ledger.one()
    assert queued.key == "q" and ledger(errands.finish, queued, "done", None)
    held = ledger.one()
    assert held.key == "f"
    ledger(table.retry, None, "k")
    assert not ledger(errands.finish, held, "done", None)  # it is another's now
    assert sorted(ledger.states().values()) == ["done", "dormant", "dormant", "dormant"]
    assert (
        not {"c", "f", "d"} & ledger.states().keys()
    )  # those who heard of the first failure will not take it for this one
    again = ledger.hold_again()
    assert ledger(lease.fail, again, report(again))
    assert ledger.one().event == "failed"


# Who holds them.


def test_an_errand_has_all_that_is_needed(ledger: Ledger) -> None:
    ledger.complete("k", owing("d", "delivery", dialect="qencode"), org="one")
    errand = ledger.one()
    assert errand == Errand("d", 1, "k", "k", "one", "delivery", "completed", "qencode", {"of": "d"}, "sealed d", 0)


def test_claims_are_fair_and_keep_to_the_room(ledger: Ledger) -> None:
    for number in range(20):
        ledger.add(f"big{number:02}", owing(f"b{number:02}", event="queued"), org="big")
    for org in ("one", "two"):
        ledger.add(org, owing(org, event="queued"), org=org)
    assert sorted(ledger.keys(callback=3)) == ["b00", "one", "two"]
    assert ledger.keys("b", callback=2) == ["b01", "b02"]
    assert ledger.keys(callback=0, delivery=5) == []
    assert len(ledger.keys(callback=100)) == 17
    assert ledger.keys() == []


def test_only_the_holder_ends_an_errand(ledger: Ledger) -> None:
    ledger.complete("k", owing("d", "delivery"))
    lost = ledger.one("gone")
    ledger(lease.take_over, "b", ["gone"], LEASE, POLICY)
    held = ledger.one("b")
    assert (held.key, held.token) == ("d", 2)
    assert not ledger(errands.finish, lost, "done", None)
    assert not ledger(errands.put_back, lost, 0.0, None, charged=True)
    assert ledger.secrets() == ["sealed d"]
    assert ledger(errands.finish, held, "done", "3 files")
    row = ledger.row("d")
    assert (row.state, row.secret, row.message, row.owner, row.attempts) == ("done", None, "3 files", None, 0)
    assert not ledger(errands.finish, held, "failed", None)


def test_leases_are_renewed_and_run_out(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"), owing("c2"))
    assert len(ledger.claim("a", OVER)) == 2
    ledger(errands.take_over, "a", [])  # not from itself: it may just have been paused
    assert ledger.keys("b") == []
    assert ledger(errands.heartbeat, "a", LEASE) == {("c", 1), ("c2", 1)}
    ledger(errands.take_over, "b", [])
    assert ledger.keys("b") == []
    ledger(errands.heartbeat, "a", OVER)
    ledger(errands.take_over, "b", [])
    assert ledger(errands.heartbeat, "a", LEASE) == set()
    assert sorted(ledger.keys("b")) == ["c", "c2"]


def test_a_drain_gives_everything_back_uncharged(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"))
    ledger.one()
    ledger(lease.release, "a")
    assert ledger.one("b").attempts == 0


def test_put_back_waits_and_counts(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"))
    assert ledger(errands.put_back, ledger.one(), 50.0, "busy", charged=True)
    assert ledger.keys() == []
    row = ledger.row("c")
    assert (row.attempts, row.message) == (1, "busy")
    assert row.due_at == pytest.approx(ledger.clock() + 50, abs=5)
    ledger.turn_back("c", 50)
    assert ledger(errands.put_back, ledger.one(), 50.0, None, charged=False)
    assert ledger.row("c").attempts == 1


# What is told, and forgotten.


def test_what_a_job_owes_is_told(ledger: Ledger) -> None:
    ledger.add("k", owing("c"), owing("d", "delivery"))
    assert [(each.key, each.state) for each in ledger(errands.of, "k")] == [("d", "dormant")]
    assert ledger(errands.of, "another") == []
    assert ledger(errands.counts) == {}
    held = ledger.hold_again()
    ledger(lease.complete, ledger.publish(held))
    assert ledger(errands.counts) == {"delivery": 1}
    ledger(errands.finish, ledger.one(), "failed", "no such bucket")
    assert [(each.key, each.state, each.message) for each in ledger(errands.of, "k")] == [
        ("c", "due", None),
        ("d", "failed", "no such bucket"),
    ]
    assert ledger(errands.counts) == {"callback": 1}


def test_a_job_that_owes_is_not_forgotten(ledger: Ledger) -> None:
    ledger.complete("k", owing("c"), owing("f", event="failed"))
    ledger.complete("other")
    with ledger.engine.begin() as connection:
        connection.execute(update(jobs).values(ended_at=0.0))
    assert ledger(table.forget, 100.0) == 1
    ledger(errands.finish, ledger.one(), "done", None)
    assert ledger(table.forget, 100.0) == 1
    assert ledger.states() == {}


def test_what_was_sealed_is_not_left_in_the_file(ledger: Ledger, tmp_path: Any) -> None:
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's files are not ours to look into")
    sealed = "v1.sealed." + "x1y2z3" * 100
    ledger.complete("k", NewErrand("d", "delivery", "completed", {}, secret=sealed))
    assert b"x1y2z3" in (tmp_path / "thumbd.db").read_bytes()
    ledger(errands.finish, ledger.one(), "done", None)
    assert b"x1y2z3" not in (tmp_path / "thumbd.db").read_bytes()


def test_a_database_of_before_gets_the_table(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("drop table errands"))
        connection.execute(text("drop index jobs_by_destination"))
    engine.dispose()
    engine = open_engine(database_url)
    Ledger(engine).complete("k", owing("c"))
    engine.dispose()


# Files that expire.


def test_nothing_is_published_where_files_are_being_removed(ledger: Ledger) -> None:
    ledger.complete("k", owing("e", "expiry"), destination="film")
    inside, beside = (ledger.hold(name, destination=f"{name}") for name in ("film/part", "films"))
    removing = ledger.one()
    assert ledger(lease.publishing, inside, report(inside)) == "wait"
    assert ledger(lease.publishing, beside, report(beside)) == "go"
    assert ledger(lease.expire, "k") not in ("wait", "gone")
    ledger(errands.finish, removing, "done", None)
    assert ledger(lease.publishing, inside, report(inside)) == "go"


def test_nothing_is_removed_where_a_job_publishes(ledger: Ledger) -> None:
    ledger.complete("k", owing("e", "expiry"), destination="film")
    other = ledger.hold("other", destination="film")
    publication = ledger.publish(other)
    ledger.one()
    assert ledger(lease.expire, "k") == "wait"
    ledger(lease.complete, publication)
    assert ledger(lease.expire, "k") not in ("wait", "gone")
    assert ledger(lease.expire, "nobody") == "gone"


def test_files_that_a_later_job_published_are_known(ledger: Ledger) -> None:
    def done(key: str, destination: str, *files: str) -> None:
        held = ledger.hold(key, destination=destination)
        ledger(lease.complete, ledger.publish(held, *files))

    done("before", "film", "film/a", "film/b")
    done("k", "film", "film/a", "film/b", "film/deep/er/c")
    done("after", "film", "film/a", "film/z")
    done("within", "film/deep", "film/deep/er/c")
    done("elsewhere", "fil", "film/b")
    found = ledger(lease.expire, "k")
    assert not isinstance(found, str)
    known, taken = found
    assert (known.key, known.destination, taken) == ("k", "film", {"film/a", "film/deep/er/c"})
    assert json.loads(known.report.model_dump_json())["outputs"][0]["files"] == ["film/a", "film/b", "film/deep/er/c"]
