"""Qencode's own client (`qencode3`) against a daemon, and every answer and number of the contract."""

import io
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import av
import httpx
import pytest
from clips import RECIPES, Clip, make
from harness import Running, Site, free_port, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from qencode3.client import Client
from qencode3.custom_params import CustomTranscodingParams, Format
from sqlalchemy import select, update

from daemon.catalogue import organisations
from daemon.tables import qencode_tasks, qencode_tokens

pytestmark = pytest.mark.daemons

THUMBNAIL = {"output": "thumbnail", "time": "0.5", "width": "100"}


@dataclass
class Door:
    """A daemon, its organisation's key, and a video."""

    site: Site
    daemon: Running
    url: str
    key: str
    clip: Clip

    def ask(self, name: str, **fields: Any) -> dict[str, Any]:
        """One question as a form; always answered by HTTP 200."""
        answer = httpx.post(f"{self.url}/v1/{name}", data=fields, timeout=60)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def token(self) -> str:
        return str(self.ask("access_token", api_key=self.key)["token"])

    def task(self) -> str:
        return str(self.ask("create_task", token=self.token())["task_token"])

    def query(self, *formats: dict[str, Any], **more: Any) -> str:
        return json.dumps({"query": {"source": str(self.clip.path), "format": list(formats), **more}})

    def start(self, *formats: dict[str, Any], **fields: Any) -> str:
        task = self.task()
        assert self.ask("start_encode2", task_token=task, query=self.query(*formats), **fields)["error"] == 0
        return task

    def status(self, task: str) -> dict[str, Any]:
        return dict(self.ask("status", task_tokens=task)["statuses"][task])

    def ended(self, task: str) -> dict[str, Any]:
        return until(lambda: (s := self.status(task)) and (s["status"] == "completed" or s["error"]) and s, task)


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@contextmanager
def serving(site: Site, clip: Clip, key: str = "", listen: str = "", **said: Any) -> Iterator[Door]:
    """A daemon with a door. `key` and `listen`: of one that came before it."""
    listen = listen or f"127.0.0.1:{free_port()}"
    with site.daemon(http__listen=listen, **said) as daemon:
        daemon.ready()
        if not key:
            key = site.ask(lambda c: organisations.add(c, "acme", [], 5)) or ""
        yield Door(site, daemon, f"http://{listen}", key, clip)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:
    with serving(Site(tmp_path_factory.mktemp("qencode"), clip.path.parent), clip) as made:
        yield made


def picture(url: str) -> Image.Image:
    answer = httpx.get(url)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


# Its client.


def test_the_whole_flow(door: Door) -> None:
    """The page's query, but for its address and destinations: a clip, and two pictures, numbers as strings."""
    client = Client(door.key, api_url=f"{door.url}/")
    assert client.error is None and client.access_token
    task = client.create_task()
    assert task.error is None and task.upload_url == f"{door.url}/v1/upload_file"
    clip = {
        "output": "mp4",
        "destination": "",
        "framerate": "29.97",
        "keyframe": "25",
        "file_extension": "mp4",
        "size": "360x240",
        "start_time": "0.5",
        "duration": "1",
    }
    stills = [
        {"output": "thumbnail", "time": f"0.{at}", "width": "320", "height": "240", "user_tag": f"{at}_320x240"}
        for at in (15, 50)
    ]
    task.custom_start(door.query(clip, *stills, upscale="1"), payload="mine")
    assert task.error is None, task.message
    assert task.status_url == f"{door.url}/v1/status"
    status = until(lambda: (s := task.status())["status"] == "completed" and s, "it is completed")
    assert task.main_status_url.startswith(f"{door.url}//v1/")
    assert (status["percent"], status["error"], status["error_description"]) == (100, 0, None)
    assert [(i["tag"], i["user_tag"], i["profile"]) for i in status["images"]] == [
        ("image-0-0", "15_320x240", None),
        ("image-1-0", "50_320x240", None),
    ]
    assert all(picture(image["url"]).size == (320, 240) for image in status["images"])
    [video] = status["videos"]
    assert (video["tag"], video["user_tag"], video["storage"]) == ("video-0-0", None, {"format": "mp4"})
    assert json.loads(video["meta"]) == {"width": 360, "height": 240, "resolution": 240}
    assert float(video["duration"]) == pytest.approx(1, abs=0.05) and isinstance(video["duration"], str)
    with av.open(io.BytesIO(httpx.get(video["url"]).content)) as container:
        assert container.streams.video[0].codec_context.width == 360
    assert status["texts"] == [] and status["warnings"] == []
    assert status["status_url"] == f"{door.url}/v1/status"
    report = door.site.ask(lambda c: c.execute(select(qencode_tasks)).all())
    assert any(row.token == task.task_token for row in report)


def test_with_its_classes(door: Door) -> None:
    client = Client(door.key, api_url=f"{door.url}/")
    params, format = CustomTranscodingParams(), Format()
    format.output, format.time, format.width = "thumbnail", 0.5, 100
    params.source, params.format = str(door.clip.path), [format]
    task = client.create_task()
    task.custom_start(params)
    assert task.error is None, task.message
    heard: list[dict[str, Any]] = []
    until(lambda: (s := task.status())["status"] == "completed" and s, "it is completed")
    task.task_completed(heard.append)
    assert heard[0]["status"] == "completed" and picture(heard[0]["images"][0]["url"]).width == 100


def test_a_series_and_its_webvtt(door: Door) -> None:
    status = door.ended(door.start({"output": "thumbnails", "interval": "1", "width": "64", "image_format": "jpg"}))
    names = [image["url"].rpartition("/")[2] for image in status["images"]]
    assert names and names == [f"thumb_{n:04}.jpg" for n in range(1, len(names) + 1)]
    assert [image["tag"] for image in status["images"]] == [f"image-0-{n}" for n in range(len(names))]
    [text] = status["texts"]
    vtt = httpx.get(text["url"])
    assert vtt.headers["content-type"].startswith("text/vtt") and vtt.headers["access-control-allow-origin"] == "*"
    said = re.findall(r"^thumb_\d{4}\.jpg$", vtt.text, re.MULTILINE)
    assert said == names
    # As a player does: what the WebVTT names lies beside it.
    assert all(picture(text["url"].rpartition("/")[0] + "/" + name).width == 64 for name in said)


def test_a_sprite_beside_a_series(door: Door) -> None:
    series = {"output": "thumbnails", "interval": 1, "width": 64}
    status = door.ended(door.start({**series, "sprite": "1", "columns": "2", "user_tag": "scrub"}, series))
    sheet, *pictures = status["images"]
    assert (sheet["tag"], sheet["user_tag"]) == ("image-0-0", "scrub")
    assert picture(sheet["url"]).width == 128
    assert [p["url"].rpartition("/")[2] for p in pictures][:1] == ["thumb_0001.png"] and pictures[0][
        "tag"
    ] == "image-1-0"
    vtt = httpx.get(status["texts"][0]["url"]).text
    assert f"{sheet['url'].rpartition('/')[2]}#xywh=64,0,64," in vtt


def test_turned_and_cropped(door: Door) -> None:
    turned = {**THUMBNAIL, "rotate": "90", "width": "90"}
    cropped = {**THUMBNAIL, "size": "80x80", "resize_mode": "crop", "image_format": "webp"}
    status = door.ended(door.start(turned, cropped))
    upright, square = (picture(image["url"]).size for image in status["images"])
    assert upright[0] == 90 and upright[1] > 90 and square == (80, 80)


def test_an_error_of_the_task(door: Door) -> None:
    late = door.ended(door.start({"output": "thumbnail", "start_time": "1000"}))
    assert (late["status"], late["error"]) == ("error", 1)
    assert "1000" in late["error_description"] and late["images"] == []
    soft = door.ended(door.start({"output": "thumbnail", "start_time": "1000", "allow_soft_fail": "1"}, THUMBNAIL))
    assert (soft["status"], soft["error"]) == ("completed", 0)
    assert [image["tag"] for image in soft["images"]] == ["image-1-0"] and len(soft["warnings"]) == 1


# What the contract says besides.


def test_a_status_from_the_first_moment_on_and_in_order(door: Door) -> None:
    order = ["downloading", "queued", "encoding", "saving", "completed"]
    task = door.start(*[{**THUMBNAIL, "user_tag": str(n)} for n in range(20)])
    seen = [door.status(task)]
    while seen[-1]["status"] != "completed":
        seen.append(door.status(task))
        assert not seen[-1]["error"]
    places = [order.index(status["status"]) for status in seen]
    percents = [status["percent"] for status in seen]
    assert places == sorted(places) and percents == sorted(percents) and percents[-1] == 100


def test_several_tasks_in_one_question_in_all_spellings(door: Door) -> None:
    tasks = [door.start(THUMBNAIL) for _ in range(3)]
    unknown = "0" * 32
    fields = [
        [("task_tokens", ",".join(tasks))],
        [("task_tokens", ", ".join(tasks))],
        [("task_tokens[]", task) for task in tasks],
        [("task_tokens", task) for task in tasks],
    ]
    for form in fields:
        body = urlencode(form)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        for answer in (
            httpx.post(f"{door.url}//v1/status", content=body, headers=headers),
            httpx.get(f"{door.url}/v1/status?{body}"),
        ):
            assert answer.status_code == 200 and answer.json()["error"] == 0
            assert set(answer.json()["statuses"]) == set(tasks)
    mixed = door.ask("status", task_tokens=f"{unknown},{tasks[0]}")
    assert (
        mixed["error"] == 0 and mixed["statuses"][unknown]["error"] == 13 and not mixed["statuses"][tasks[0]]["error"]
    )
    assert door.ask("status", task_tokens=unknown)["error"] == 13


def test_slashes(door: Door) -> None:
    for path in ("//v1/access_token", "/v1//access_token", "///v1///access_token"):
        answer = httpx.post(door.url + path, data={"api_key": door.key})
        assert answer.status_code == 200 and answer.json()["error"] == 0
    assert httpx.post(f"{door.url}//jobs").status_code == 404  # of other routes none


def test_an_expired_token(door: Door) -> None:
    answer = door.ask("access_token", api_key=door.key)
    expire = datetime.strptime(answer["expire"], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    assert timedelta(hours=23) < expire - datetime.now(UTC) < timedelta(hours=25)
    assert door.ask("create_task", token=answer["token"])["error"] == 0
    assert door.ask("create_task", token=answer["token"])["error"] == 0  # as often as one likes
    door.site.ask(lambda c: c.execute(update(qencode_tokens).values(expires_at=0)))
    refused = door.ask("create_task", token=answer["token"])
    assert (refused["error"], refused["success"], refused["result"]) == (5, False, None)


def test_a_task_starts_once_however_many_ask(door: Door) -> None:
    task, query = door.task(), door.query(THUMBNAIL)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: door.ask("start_encode2", task_token=task, query=query), range(8)))
    assert sorted(answer["error"] for answer in answers) == [0, *[4] * 7]
    assert "started already" in next(a for a in answers if a["error"])["message"]
    assert door.ended(task)["status"] == "completed"


def test_a_task_that_was_refused_may_be_started_again(door: Door) -> None:
    task = door.task()
    assert door.ask("start_encode2", task_token=task, query=door.query())["error"] == 11
    assert door.ask("start_encode2", task_token=task, query=door.query(THUMBNAIL))["error"] == 0


GOOD = '{"query": {"source": "/film.mp4", "format": [{"output": "thumbnail", "time": 0}]}}'
ERRORS: list[tuple[int, str, dict[str, Any]]] = [
    (14, "access_token", {}),
    (14, "access_token", {"api_key": ""}),
    (2, "access_token", {"api_key": "short"}),
    (2, "access_token", {"api_key": "with a space in it"}),
    (2, "access_token", {"api_key": "x" * 1000}),
    (3, "access_token", {"api_key": "thumbd_nobody_has_this"}),
    (14, "create_task", {}),
    (4, "create_task", {"token": "x"}),
    (4, "create_task", {"token": "\x00" * 32}),
    (5, "create_task", {"token": "0" * 32}),
    (14, "start_encode2", {}),
    (14, "start_encode2", {"task_token": "TASK"}),
    (14, "start_encode2", {"query": GOOD}),
    (4, "start_encode2", {"task_token": "x", "query": GOOD}),
    (5, "start_encode2", {"task_token": "0" * 32, "query": GOOD}),
    (9, "start_encode2", {"task_token": "TASK", "query": GOOD, "payload": "x" * 1001}),
    (9, "start_encode2", {"task_token": "TASK", "query": GOOD[:-1] + ', "payload": "' + "x" * 1001 + '"}'}),
    (11, "start_encode2", {"task_token": "TASK", "query": "no json"}),
    (11, "start_encode2", {"task_token": "TASK", "query": '{"query": ' + " " * (1 << 20) + "{}}"}),
    (19, "start_encode2", {"task_token": "TASK", "query": '{"source": "/film.mp4", "format": []}'}),
    (19, "start_encode2", {"task_token": "TASK", "query": "[]"}),
    (11, "start_encode2", {"task_token": "TASK", "query": '{"query": []}'}),
    (14, "start_encode2", {"task_token": "TASK", "query": '{"query": {"source": "/film.mp4"}}'}),
    (14, "start_encode2", {"task_token": "TASK", "query": '{"query": {"format": [{}]}}'}),
    (14, "start_encode2", {"task_token": "TASK", "query": '{"query": {"source": "a", "format": [{}]}}'}),
    (14, "start_encode2", {"task_token": "TASK", "query": GOOD.replace(', "time": 0', "")}),
    (14, "start_encode2", {"task_token": "TASK", "query": GOOD.replace('l", "time": 0', 'ls"')}),
    (11, "start_encode2", {"task_token": "TASK", "query": GOOD.replace("thumbnail", "webm")}),
    (11, "start_encode2", {"task_token": "TASK", "query": GOOD.replace('"time": 0', '"time": 2')}),
    (11, "start_encode2", {"task_token": "TASK", "query": GOOD.replace('"time"', '"logo": {}, "time"')}),
    (12, "start_encode", {"task_token": "TASK", "profiles": "5a2a846a26ace", "uri": "/film.mp4"}),
    (5, "start_encode", {"task_token": "0" * 32}),
    (13, "status", {}),
    (13, "status", {"task_tokens": ","}),
    (13, "status", {"task_tokens": "x"}),
    (13, "status", {"task_tokens": '["' + "0" * 32 + '"]'}),
    (13, "status", {"task_tokens": "TASK"}),  # not started
    (13, "status", {"task_tokens": ",".join(f"{n:032x}" for n in range(101))}),
    (9, "start_encode2", {"task_token": "TASK", "query": GOOD, "more": "x" * (5 << 20)}),
]


@pytest.mark.parametrize(("number", "name", "fields"), ERRORS)
def test_numbers_of_errors(number: int, name: str, fields: dict[str, str], door: Door) -> None:
    if "TASK" in fields.values():
        task = door.task()
        fields = {key: task if value == "TASK" else value for key, value in fields.items()}
    answer = door.ask(name, **fields)
    assert answer["error"] == number, answer
    assert answer["message"] and "\n" not in answer["message"] and len(answer["message"]) < 1000
    assert (answer["success"], answer["result"]) == (False, None)


def test_other_ways_to_ask_wrongly(door: Door) -> None:
    for content, kind in (
        (b"\xff=\xff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(2000)), "application/x-www-form-urlencoded"),
        (b'{"api_key": "x"}', "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
    ):
        answer = httpx.post(f"{door.url}/v1/access_token", content=content, headers={"Content-Type": kind})
        assert answer.status_code == 200 and answer.json()["error"] == 11


def test_an_organisation_that_is_gone(door: Door) -> None:
    key = door.site.ask(lambda c: organisations.add(c, "passing", [], 5))
    token = door.ask("access_token", api_key=key)["token"]
    task = door.ask("create_task", token=token)["task_token"]
    door.site.ask(lambda c: organisations.remove(c, "passing"))
    assert door.ask("create_task", token=token)["error"] == 6
    assert door.ask("start_encode2", task_token=task, query=door.query(THUMBNAIL))["error"] == 6
    until(lambda: door.ask("access_token", api_key=key)["error"] == 3, "the key is looked up again")


def test_a_table_that_cannot_be_reached(tmp_path: Path, clip: Clip) -> None:
    fault = """
from sqlalchemy.exc import OperationalError
from daemon.api import qencode
def no(*_): raise OperationalError("select", {}, Exception("gone"))
def own(*_): raise KeyError("a fault of our own")
qencode.qencode.create_task = no
qencode.qencode.task = own
"""
    with serving(Site(tmp_path, clip.path.parent), clip, fault=fault) as door:
        busy = door.ask("create_task", token=door.token())
        assert (busy["error"], busy["retry_after"]) == (8, 10)
        broken = door.ask("start_encode2", task_token="0" * 32, query=door.query(THUMBNAIL))
        assert (broken["error"], broken["message"]) == (1, "internal error: KeyError")


def test_a_signed_url_is_for_one_folder_and_ends(door: Door) -> None:
    status, other = (door.ended(door.start(THUMBNAIL)) for _ in range(2))
    url, elsewhere = status["images"][0]["url"], other["images"][0]["url"]
    signed, mine = url.rpartition("/orgs/")[0], elsewhere.rpartition("/orgs/")[2]
    assert httpx.get(url).status_code == 200
    assert httpx.get(f"{signed}/orgs/{mine}").status_code == 403
    assert httpx.get(url.rpartition("/")[0] + "/manifest.json").status_code == 404
    assert httpx.get(url.replace("/v1/temporary/1", "/v1/temporary/2")).status_code == 403
    assert httpx.get(url.replace("/v1/temporary/1", "/v1/temporary/x")).status_code == 403
    for path in ("..", "../..", "%2e%2e/", "", ".staging", "a\x00b"):
        assert httpx.get(url.rpartition("/")[0] + f"/{path}".replace("\x00", "%00")).status_code in (403, 404)


# Whatever comes.

TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["access_token", "create_task", "start_encode2", "status"]),
    fields=st.dictionaries(
        st.sampled_from(["api_key", "token", "task_token", "task_tokens", "task_tokens[]", "query", "payload"]),
        st.one_of(TEXT, JSON.map(json.dumps), JSON.map(lambda said: json.dumps({"query": said})), st.just("TASK")),
    ),
)
def test_whatever_is_asked(name: str, fields: dict[str, str], door: Door, one_task: str) -> None:
    said = {key: (one_task if value == "TASK" else value).encode("utf-8", "replace") for key, value in fields.items()}
    answer = door.ask(name, **said)
    assert isinstance(answer["error"], int) and answer["success"] is (answer["error"] == 0)


@pytest.fixture(scope="module")
def one_task(door: Door) -> str:
    return door.task()


# After a daemon's death.

DIES_WHEN_PUBLISHING = """
from daemon.store.folder import Folder
before(Folder, "publish", die)
"""


def test_restarts(tmp_path: Path, clip: Clip) -> None:
    """Killed between the token and the task, the task and its start, and while it runs."""
    site, listen = Site(tmp_path, clip.path.parent), f"127.0.0.1:{free_port()}"
    with serving(site, clip, listen=listen) as first:
        key, token = first.key, first.token()
    with serving(site, clip, key, listen) as second:
        task = second.ask("create_task", token=token)["task_token"]
    with serving(site, clip, key, listen, fault=DIES_WHEN_PUBLISHING) as third:
        started = third.ask("start_encode2", task_token=task, query=third.query(THUMBNAIL))
        assert started["error"] == 0
        third.daemon.killed()
    with serving(site, clip, key, listen) as fourth:
        status = fourth.ended(task)
        assert status["status"] == "completed" and picture(status["images"][0]["url"]).width == 100
        again = fourth.ask("start_encode2", task_token=task, query=fourth.query(THUMBNAIL))
        assert again["error"] == 4
        # Killed as soon as start_encode2 answers: the task has a status for ever after.
        last = fourth.start(THUMBNAIL)
        fourth.daemon.kill()
    with serving(site, clip, key, listen) as fifth:
        assert fifth.ended(last)["status"] == "completed"


def test_two_daemons_of_one_table_start_a_task_once(tmp_path: Path, clip: Clip) -> None:
    site = Site(tmp_path, clip.path.parent)
    with serving(site, clip) as one, serving(site, clip, one.key) as two:
        task, ready = one.task(), threading.Barrier(2)

        def begin(door: Door) -> int:
            ready.wait()
            return int(door.ask("start_encode2", task_token=task, query=door.query(THUMBNAIL))["error"])

        with ThreadPoolExecutor(2) as both:
            assert sorted(both.map(begin, (one, two))) == [0, 4]
        assert two.ended(task)["status"] == "completed"
