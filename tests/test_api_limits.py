"""What an organisation may have in an hour and at once, exact with fifty clients that all ask at the same moment."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clips import RECIPES, Clip, make
from doors import Door, door_of
from harness import Site, until

pytestmark = pytest.mark.daemons

HOLD = 'from daemon.store.folder import Folder\nbefore(Folder, "stage", hold("work"), calls=ALWAYS, fuse="hold-work")'
CLIENTS = 50


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:
    site = Site(tmp_path_factory.mktemp("limits"), clip.path.parent)
    with door_of(site, HOLD, workers=2, limits__retrievals=120) as door:
        yield door


def registered(door: Door, org: str, clip: Clip) -> str:
    """Where an organisation's pictures are asked for."""
    door.key(org, max_running=5)
    with door.client(org) as client:
        client.put(f"/videos/film-{org}", json={"source": str(clip.path)}).raise_for_status()
    return f"/v1/api/{org}/videos/film-{org}/thumbnail"


def at_once(door: Door, org: str, requests: list[tuple[str, str, dict[str, int] | None]]) -> list[httpx.Response]:
    """The answers to all of them, asked by fifty clients together."""

    async def ask() -> list[httpx.Response]:
        left, answers = iter(requests), []
        headers = {"X-Api-Key": door.key(org)}

        async def one() -> None:
            async with httpx.AsyncClient(base_url=door.url, headers=headers, timeout=60) as client:
                for method, path, body in left:
                    answers.append(await client.request(method, path, json=body))

        await asyncio.gather(*(one() for _ in range(CLIENTS)))
        return answers

    return asyncio.run(ask())


def check_refusals(answers: list[httpx.Response], good: int, allowed: int, of_all: int) -> None:
    assert Counter(answer.status_code for answer in answers) == {good: allowed, 429: of_all - allowed}
    for answer in answers:
        if answer.status_code == 429:
            assert 0 < int(answer.headers["retry-after"]) <= 3600 and answer.json()["code"] == "quota_exceeded"


def test_of_two_hundred_new_pictures_fifty_are_accepted_and_five_run_at_most(door: Door, clip: Clip) -> None:
    place = registered(door, "one", clip)
    door.site.light("hold-work")
    wanted = [{"width": 16 + n, "height": 16, "timestampMs": 10 * (n % 7)} for n in range(200)]
    answers = at_once(door, "one", [("POST", f"{place}s", body) for body in wanted])
    check_refusals(answers, 200, 50, 200)
    assert {answer.json()["status"] for answer in answers if answer.status_code == 200} <= {"pending", "processing"}
    until((door.site.fuses / "work.held").exists, "work has begun")
    states = Counter(row["state"] for row in door.site.rows("state"))
    assert 1 <= states["running"] <= 5 and states["running"] + states["queued"] == 50, states
    throttled = 'thumbd_org_throttled_total{limit="generations"}'
    assert door.daemon.metrics()[throttled] == 150
    # What was accepted before costs nothing, nor has it been lost.
    known = [body for body, answer in ((a.request.content, a) for a in answers) if answer.status_code == 200]
    with door.client("one") as client:
        for body in known[:10]:
            again = client.post(f"{place}s", content=body, headers={"Content-Type": "application/json"})
            assert again.status_code == 200, again.text
    door.site.put_out("hold-work")
    (door.site.fuses / "work.held").unlink()
    until(lambda: all(row["state"] == "completed" for row in door.site.rows("state")), "all fifty are made", 150)
    assert len(door.site.rows("state")) == 50


def test_another_organisation_has_an_allowance_of_its_own(door: Door, clip: Clip) -> None:
    place = registered(door, "two", clip)
    with door.client("two") as client:
        answer = client.post(f"{place}s", json={"width": 16, "height": 16, "timestampMs": 0})
    assert answer.status_code == 200


def test_the_same_picture_is_one_generation_whoever_asks_at_once(door: Door, clip: Clip) -> None:
    place = registered(door, "three", clip)
    body = {"width": 32, "height": 32, "timestampMs": 40}
    answers = at_once(door, "three", [("POST", f"{place}s", body)] * 100)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["jobId"] for answer in answers}) == 1
    fresh = [{"width": 33 + n, "height": 32, "timestampMs": 40} for n in range(60)]
    check_refusals(at_once(door, "three", [("POST", f"{place}s", body) for body in fresh]), 200, 49, 60)


def test_status_calls_and_retrievals_are_counted_apart(door: Door, clip: Clip) -> None:
    place = registered(door, "four", clip)
    check_refusals(at_once(door, "four", [("GET", "/v1/api/thumbnails/none", None)] * 160), 404, 100, 160)
    check_refusals(at_once(door, "four", [("GET", place, None)] * 160), 200, 120, 160)
