"""What follows a task: deliveries to its client's buckets, callbacks, the end of what lies in the store for a while."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from buckets import KEY, SECRET, Moto, moto
from clips import Clip
from harness import Running, Site, free_port, until
from listener import Call, Listener, always, listening
from qencode3.client import Client
from test_qencode_api import THUMBNAIL, Door, clip, picture, serving  # noqa: F401  clip is a fixture

pytestmark = pytest.mark.daemons

# The page's own curl, as it stands but for the host of the bucket and the times of a shorter film.
PAGE = """{"query": {
        "source": "https://qa.qencode.com/static/test_mini.mp4",
        "format": [
             {
                    "output": "mp4",
                    "destination": {
                      "url":"s3://nyc3.digitaloceanspaces.com/qencode3/test/test_mini.mp4",
                      "key":"abcde12345",
                      "secret":"abcde12345",
                      "permissions": "public-read"
                    },
                     "framerate": "29.97",
                     "keyframe": "25",
                     "file_extension": "mp4",
                     "size": "360x240",
                     "start_time": "1",
                     "duration": "1"
                   },
                   {
                     "output": "thumbnail",
                     "time": "0.15",
                     "width": "320",
                     "height": "240",
                     "destination": {
                       "url":"s3://nyc3.digitaloceanspaces.com/qencode3/test/thumb/15_320x240.png",
                       "key":"abcde12345",
                       "secret":"abcde12345",
                       "permissions": "public-read"
                      },
                     "user_tag": "15_320x240"
                    },
                   {
                     "output": "thumbnail",
                     "time": "0.50",
                     "width": "320",
                     "height": "240",
                     "destination": {
                       "url":"s3://nyc3.digitaloceanspaces.com/qencode3/test/thumb/50_320x240.png",
                       "key":"abcde12345",
                       "secret":"abcde12345",
                       "permissions": "public-read"
                      },
                     "user_tag": "50_320x240"
                    }
                  ]
                }
              }"""

HERE = {
    "deliveries__allowed_hosts": '["127.0.0.1"]',
    "deliveries__plain_hosts": '["127.0.0.1"]',
    "deliveries__first_delay": 0.05,
    "webhooks__allowed_hosts": '["127.0.0.1"]',
    "webhooks__first_delay": 0.05,
}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Moto]:
    with moto("qencode3") as server:
        yield server


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:  # noqa: F811
    static = tmp_path_factory.mktemp("static")
    (static / "test_mini.mp4").write_bytes(clip.path.read_bytes())
    at_hand = json.dumps({"https://qa.qencode.com/static/": str(static)})
    site = Site(tmp_path_factory.mktemp("owed"), clip.path.parent)
    with serving(site, clip, sources__aliases=at_hand, **HERE) as made:
        yield made


def to(bucket: Moto, path: str, **more: str) -> dict[str, str]:
    return {"url": f"s3://{bucket.endpoint}/qencode3/{path}", "key": KEY, "secret": SECRET, **more}


# Deliveries.


def test_the_pages_own_query(door: Door, bucket: Moto) -> None:
    text = PAGE.replace("nyc3.digitaloceanspaces.com", bucket.endpoint)
    task = Client(door.key, api_url=f"{door.url}/").create_task()
    task.custom_start(text)
    assert task.error is None, task.message
    status = until(lambda: (s := task.status())["status"] == "completed" and s, "it is completed")
    [video], images = status["videos"], status["images"]
    keys = ["test/test_mini.mp4", "test/thumb/15_320x240.png", "test/thumb/50_320x240.png"]
    for file, key in zip([video, *images], keys, strict=True):
        assert file["url"] == f"http://{bucket.endpoint}/qencode3/{key}"
        assert file["storage"] == {
            "type": "custom_s3",
            "host": "127.0.0.1",
            "port": bucket.port,
            "scheme": "http",
            "bucket": "qencode3",
            "key": key,
            "format": key.rpartition(".")[2],
        }
        assert bucket.is_public(f"qencode3/{key}")
    assert [image["user_tag"] for image in images] == ["15_320x240", "50_320x240"]
    assert bucket.ask("qencode3/test/test_mini.mp4").headers["content-type"] == "video/mp4"
    assert bucket.ask(f"qencode3/{keys[1]}").headers["content-type"] == "image/png"
    assert picture(images[0]["url"]).size == (320, 180)  # no picture is made larger unless the query says so
    assert "abcde12345" not in json.dumps(status)


def test_a_series_and_a_sprite_into_folders(door: Door, bucket: Moto) -> None:
    series = {"output": "thumbnails", "interval": "1", "width": "64", "image_format": "jpg"}
    status = door.ended(
        door.start(
            {**series, "destination": to(bucket, "series")},
            {**series, "sprite": "1", "destination": to(bucket, "sprite/", permissions="private")},
        )
    )
    assert status["error"] == 0, status
    names = {name for name in bucket.names("qencode3") if name.startswith(("series/", "sprite/"))}
    said = [file["storage"]["key"] for file in status["images"] + status["texts"]]
    assert names == set(said) and "series/thumb_0001.jpg" in names
    vtt = next(text["storage"]["key"] for text in status["texts"] if text["storage"]["key"].startswith("series/"))
    assert b"\nthumb_0001.jpg" in bucket.ask(f"qencode3/{vtt}").data
    assert not any(bucket.is_public(f"qencode3/{name}") for name in names)


def test_several_destinations(door: Door, bucket: Moto) -> None:
    status = door.ended(door.start({**THUMBNAIL, "destination": [to(bucket, "one.png"), to(bucket, "other.png")]}))
    assert {"one.png", "other.png"} <= bucket.names("qencode3")
    assert [image["storage"]["key"] for image in status["images"]] == ["one.png"]


def test_a_delivery_that_fails(door: Door, bucket: Moto) -> None:
    nowhere = to(bucket, "a.png") | {"url": f"s3://{bucket.endpoint}/no-such-bucket/a.png"}
    hard = door.ended(door.start({**THUMBNAIL, "destination": nowhere}))
    assert (hard["status"], hard["error"]) == ("error", 1)
    assert hard["error_description"].startswith("delivery to s3://no-such-bucket/a.png failed: ")
    soft = door.ended(door.start({**THUMBNAIL, "destination": nowhere, "allow_soft_fail": "1"}))
    assert (soft["status"], soft["error"]) == ("completed", 0)
    assert soft["warnings"][0]["message"].startswith("delivery to s3://no-such-bucket/a.png failed: ")


def test_a_host_that_may_not_be_delivered_to(door: Door) -> None:
    there = {"url": "s3://nyc3.digitaloceanspaces.com/qencode3/a.png", "key": KEY, "secret": SECRET}
    query = door.query({**THUMBNAIL, "destination": there})
    answer = door.ask("start_encode2", task_token=door.task(), query=query)
    assert answer["error"] == 11 and "nyc3.digitaloceanspaces.com" in answer["message"]
    assert answer["message"].startswith("query.format[0].destination") and SECRET not in answer["message"]


def test_no_credential_is_left(tmp_path: Path, clip: Clip, bucket: Moto) -> None:  # noqa: F811
    """Killed while it delivers; afterwards the secret is in no table, log, status or file."""
    dies = 'from daemon.owed.delivery import Deliveries\nbefore(Deliveries, "pay", die)'
    site, listen = Site(tmp_path, clip.path.parent), f"127.0.0.1:{free_port()}"
    with serving(site, clip, listen=listen, fault=dies, **HERE) as door:
        task = door.start({**THUMBNAIL, "destination": to(bucket, "after-death.png")}, payload="mine")
        door.daemon.killed()
    with serving(site, clip, door.key, listen, **HERE) as door:
        status = door.ended(task)
        assert status["status"] == "completed" and "after-death.png" in bucket.names("qencode3")
        assert picture(status["images"][0]["url"] if bucket.is_public("qencode3/after-death.png") else _own(door)).width
        door.daemon.kill()
    for path in (*tmp_path.rglob("*"),):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def _own(door: Door) -> str:
    """A URL of the same picture in the daemon's own store."""
    [job] = httpx.get(f"{door.url}/jobs", headers={"X-Api-Key": door.key}).json()["jobs"]
    return str(job["outputs"][0]["url"])


# Callbacks.


def form(call: Call) -> dict[str, Any]:
    assert call.method == "POST" and call.headers["content-type"] == "application/x-www-form-urlencoded"
    said = {name: values[0] for name, values in parse_qs(call.body.decode(), strict_parsing=True).items()}
    return said | {"status": json.loads(said["status"])}


def called(listener: Listener, number: int) -> list[dict[str, Any]]:
    return [form(call) for call in listener.wait_for(number)]


def begin(door: Door, *formats: dict[str, Any], **more: Any) -> str:
    task = door.task()
    payload = {"payload": more.pop("payload")} if "payload" in more else {}
    answer = door.ask("start_encode2", task_token=task, query=door.query(*formats, **more), **payload)
    assert answer["error"] == 0, answer
    return task


def test_it_is_called_back(door: Door) -> None:
    payload = '{"mine": "ä & =+"}'
    with listening(always(200)) as listener:
        task = begin(door, THUMBNAIL, callback_url=listener.url(), payload=payload)
        queued, saved = called(listener, 2)
        for said in (queued, saved):
            assert (said["task_token"], said["callback_type"], said["payload"]) == (task, "task", payload)
        assert (queued["event"], saved["event"]) == ("queued", "saved")
        assert saved["status"]["status"] == "completed" and saved["status"]["images"][0]["tag"] == "image-0-0"
        assert "error_code" not in saved
        status = door.ended(task)
        assert len(listener.calls) == 2
    assert {**status, "status_url": None} == {**saved["status"], "status_url": None}


def test_it_is_called_back_of_an_error(door: Door) -> None:
    with listening(always(200)) as listener:
        task = begin(door, {"output": "thumbnail", "start_time": 1000}, callback_url=listener.url())
        _, error = called(listener, 2)
        assert (error["event"], error["error_code"], error["task_token"]) == ("error", "1", task)
        assert error["error_message"] == error["status"]["error_description"] and "payload" not in error


def test_it_is_called_back_when_all_is_delivered(door: Door, bucket: Moto) -> None:
    nowhere = to(bucket, "a.png") | {"url": f"s3://{bucket.endpoint}/no-such-bucket/a.png"}
    with listening(always(200)) as listener:
        begin(door, {**THUMBNAIL, "destination": to(bucket, "called.png")}, callback_url=listener.url("/good"))
        assert [said["event"] for said in called(listener, 2)] == ["queued", "saved"]
        assert "called.png" in bucket.names("qencode3")
        begin(door, {**THUMBNAIL, "destination": nowhere}, callback_url=listener.url("/bad"))
        assert [said["event"] for said in called(listener, 4)][2:] == ["queued", "error"]


def test_nobody_listens(door: Door) -> None:
    with listening(always(404)) as listener:
        task = begin(door, THUMBNAIL, callback_url=listener.url())
        listener.wait_for(2)
        status = until(lambda: len((s := door.ended(task))["warnings"]) == 2 and s, "both are told")
    assert (status["status"], status["error"]) == ("completed", 0)
    assert {warning["message"] for warning in status["warnings"]} == {"Callback delivery error"}
    assert "404" in status["warnings"][0]["details"]


# The store, for a while.


def test_files_without_a_destination_end(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    with serving(Site(tmp_path, clip.path.parent), clip, qencode__temporary_hours=3 / 3600) as door:
        kept = door.site.root / "store" / "orgs" / "acme"
        task = door.start(THUMBNAIL, {"output": "thumbnails", "interval": 1, "width": 64})
        status = door.ended(task)
        url = status["images"][0]["url"]
        assert picture(url).width == 100
        until(lambda: not list(kept.rglob("*.png")) and not list(kept.rglob("*.vtt")), "its files are gone")
        assert httpx.get(url).status_code == 404
        assert door.status(task)["status"] == "completed"


def test_they_end_though_the_daemon_was_killed(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    site, listen = Site(tmp_path, clip.path.parent), f"127.0.0.1:{free_port()}"
    soon = {"qencode__temporary_hours": 1 / 3600}
    dies = 'from daemon.store.folder import Folder\nbefore(Folder, "expire", die)'

    def files() -> list[Path]:
        return [path for path in (site.root / "store").rglob("*.png") if ".staging" not in path.parts]

    with serving(site, clip, listen=listen, fault=dies, **soon) as door:
        door.start(THUMBNAIL)
        daemon: Running = door.daemon
        daemon.killed()
    assert files()
    with serving(site, clip, door.key, listen, **soon):
        until(lambda: not files(), "its files are gone")
