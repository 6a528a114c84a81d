"""HesedVid's own clients, as its page has them, against a daemon; and every answer and limit of its contract."""

import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from clips import RECIPES, Clip, make
from harness import Running, Site, free_port, until
from PIL import Image
from sqlalchemy import delete

from daemon.catalogue import organisations, videos
from daemon.database import open_engine
from daemon.tables import jobs

pytestmark = pytest.mark.daemons

NODE = shutil.which("node")


@dataclass
class Door:
    """A daemon, its organisation's key, and a video."""

    site: Site
    daemon: Running
    url: str
    key: str
    clip: Clip

    def client(self, key: str | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-Api-Key": key or self.key}, timeout=60)

    def add_org(self, name: str, max_running: int | None = 5) -> str:
        engine = open_engine(f"sqlite:///{self.site.database}")
        with engine.begin() as connection:
            key = organisations.add(connection, name, [], max_running)
        engine.dispose()
        assert key is not None
        return key

    def register(self, id: str, source: Path, key: str | None = None) -> dict[str, Any]:
        with self.client(key) as client:
            answer = client.put(f"/videos/{id}", json={"source": str(source)})
            assert answer.status_code == 200, answer.text
            return dict(answer.json())


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:
    site = Site(tmp_path_factory.mktemp("hesedvid"), clip.path.parent)
    listen = f"127.0.0.1:{free_port()}"
    settings = {"limits__generations": 1000, "limits__status_calls": 1000}
    with site.daemon(http__listen=listen, workers=2, **settings) as daemon:
        daemon.ready()
        made = Door(site, daemon, f"http://{listen}", "", clip)
        made.key = made.add_org("org_123456789")
        made.register("pubvid_AbCdEf", clip.path)
        yield made


def generate(client: httpx.Client, **body: object) -> httpx.Response:
    said = {"width": 320, "height": 180, "timestampMs": 1000} | body
    return client.post("/v1/api/org_123456789/videos/pubvid_AbCdEf/thumbnails", json=said)


def completed(client: httpx.Client, job: str) -> dict[str, Any]:
    def ended() -> dict[str, Any]:
        answer = client.get(f"/v1/api/thumbnails/{job}").json()
        return dict(answer) if answer["status"] in ("completed", "failed") else {}

    return until(ended, f"{job} ends")


def picture(url: str) -> Image.Image:
    """As anybody fetches it: without a key."""
    answer = httpx.get(url)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp", answer
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    return Image.open(io.BytesIO(answer.content))


# The page's own samples, but for the address and the key.


def test_the_pages_python_client(door: Door) -> None:
    import requests

    def generate_thumbnail() -> Any:
        url = f"{door.url}/v1/api/org_123456789/videos/pubvid_AbCdEf/thumbnails"
        headers = {"X-Api-Key": door.key, "Content-Type": "application/json"}
        data = {"width": 320, "height": 180, "timestampMs": 1200}
        return requests.post(url, headers=headers, json=data, timeout=60).json()

    def check_thumbnail_status(job: str) -> Any:
        url = f"{door.url}/v1/api/thumbnails/{job}"
        return requests.get(url, headers={"X-Api-Key": door.key}, timeout=60).json()

    answer = generate_thumbnail()
    assert answer["body"] == {key: answer[key] for key in ("jobId", "url", "status")}
    status = until(
        lambda: (s := check_thumbnail_status(answer["jobId"]))["status"] == "completed" and s, "it is completed"
    )
    assert status["url"] == status["body"]["url"] == answer["url"]
    assert picture(answer["url"]).size == (320, 180)


@pytest.mark.skipif(NODE is None, reason="the page's JavaScript needs node")
def test_the_pages_javascript_client(door: Door) -> None:
    sample = (Path(__file__).parent / "hesedvid_client.mjs").resolve()
    ran = subprocess.run(
        [str(NODE), str(sample), door.url, door.key], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    best, urls = json.loads(ran.stdout)
    assert [picture(url).size for url in urls] == [(320, 180), (1200, 630)]
    assert best["available"] is True and (best["width"], best["height"]) == picture(best["url"]).size


# Pictures.


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4096, 1), (1, 4096), (333, 77), (640, 360), (200, 1000)])
def test_a_picture_has_exactly_the_size_that_was_asked(door: Door, width: int, height: int) -> None:
    with door.client() as client:
        answer = generate(client, width=width, height=height).json()
        done = completed(client, answer["jobId"])
    assert done["status"] == "completed"
    assert picture(answer["url"]).size == (width, height)


def test_the_first_and_the_last_picture(door: Door) -> None:
    duration = round(float(door.clip.end) * 1000)
    with door.client() as client:
        for at, status in ((0, 200), (duration, 200), (duration + 1, 422)):
            answer = generate(client, timestampMs=at)
            assert answer.status_code == status, answer.text
            if status == 200:
                assert completed(client, answer.json()["jobId"])["status"] == "completed"
                assert picture(answer.json()["url"]).size == (320, 180)
        assert answer.json()["title"] == "Unprocessable Entity" and answer.json()["status"] == 422


def test_the_url_is_known_before_there_is_a_file(door: Door) -> None:
    """And says that it may not be kept until there is one."""
    with door.client() as client:
        answer = generate(client, width=321, height=123, timestampMs=5).json()
        url = urlsplit(answer["url"])
        assert url.path.endswith("/pubvid_AbCdEf/thumbnails/custom/5_321x123.webp")
        never = httpx.get(answer["url"].replace("5_321x123", "6_321x123"))
        assert never.status_code == 404 and never.headers["cache-control"] == "no-store"
        completed(client, answer["jobId"])
    assert picture(answer["url"]).size == (321, 123)
    mac = url.path.split("/")[2]
    for other in (mac[:-1], "0" * len(mac), mac.upper() if mac.upper() != mac else mac[::-1], "é"):
        assert httpx.get(answer["url"].replace(mac, other)).status_code == 404


def test_the_same_picture_again_is_there_at_once_and_costs_nothing(door: Door) -> None:
    key = door.add_org("thrifty")
    door.register("thrifty-video", door.clip.path, key)
    with door.client(key) as client:
        url = "/v1/api/thrifty/videos/thrifty-video/thumbnails"
        wanted = {"width": 64, "height": 64, "timestampMs": 100}
        first = client.post(url, json=wanted).json()
        completed(client, first["jobId"])
        for turn in range(3):
            if turn == 2:  # the picture stays when its job is long forgotten
                door.site.ask(lambda c: c.execute(delete(jobs).where(jobs.c.id == first["jobId"])))
            again = client.post(url, json=wanted).json()
            assert (again["jobId"], again["url"], again["status"]) == (first["jobId"], first["url"], "completed")
            status = client.get(f"/v1/api/thumbnails/{first['jobId']}").json()["body"]
            assert status == {"status": "completed", "url": first["url"]}
    with open_engine(f"sqlite:///{door.site.database}").begin() as connection:
        used = connection.exec_driver_sql("select used from quotas where org = 'thrifty' and name = 'generations'")
        assert used.scalar() == 1


def test_the_best_is_the_largest_that_was_made_of_the_video(door: Door) -> None:
    key = door.add_org("best")
    door.register("best-video", door.clip.path, key)
    best = "/v1/api/best/videos/best-video/thumbnail"
    with door.client(key) as client:
        none = client.get(best).json()
        assert none["body"] == {"url": "", "available": False, "width": 0, "height": 0}
        for width in (100, 300, 200):
            made = client.post(best + "s", json={"width": width, "height": 50, "timestampMs": 0}).json()
            completed(client, made["jobId"])
        found = client.get(best).json()
        assert (found["available"], found["width"], found["height"]) == (True, 300, 50)
        assert picture(found["url"]).size == (300, 50)
        # A job of the native API on the same file counts too; a series or a clip does not.
        outputs = [
            {"output": "thumbnail", "at": 0, "width": 400, "height": 200, "fit": "stretch", "upscale": True},
            {"output": "thumbnails", "count": 1, "width": 500, "height": 400, "fit": "stretch", "upscale": True},
        ]
        job = client.post("/jobs", json={"source": str(door.clip.path), "outputs": outputs}).json()
        client.get(f"/jobs/{job['id']}?wait=60")
        found = client.get(best).json()
        assert (found["width"], found["height"]) == (400, 200)
        assert Image.open(io.BytesIO(httpx.get(found["url"]).content)).size == (400, 200)


def test_other_bytes_under_the_same_id_are_another_video(door: Door, tmp_path: Path) -> None:
    """What may be kept for ever keeps its URL; a new revision has other ones."""
    key = door.add_org("changing")
    media = door.clip.path.parent / "changing.mp4"
    shutil.copyfile(door.clip.path, media)
    try:
        with door.client(key) as client:
            urls, url = [], "/v1/api/changing/videos/changing-video/thumbnails"
            for _ in range(2):
                door.register("changing-video", media, key)
                wanted = client.post(url, json={"width": 40, "height": 30, "timestampMs": 0}).json()
                assert completed(client, wanted["jobId"])["status"] == "completed"
                urls.append(wanted["url"])
                time.sleep(0.01)
                media.touch()
            assert urls[0] != urls[1]
            assert httpx.get(urls[0]).status_code == 404 and picture(urls[1]).size == (40, 30)
    finally:
        media.unlink()


# What is refused.

WRONG = [
    ({"width": 5000}, "body.width", 5000),
    ({"width": 0}, "body.width", 0),
    ({"height": -1}, "body.height", -1),
    ({"height": "180"}, "body.height", "180"),
    ({"height": 180.5}, "body.height", 180.5),
    ({"timestampMs": -1}, "body.timestampMs", -1),
    ({"timestampMs": 2**31}, "body.timestampMs", 2**31),
    ({"timestampMs": None}, "body.timestampMs", None),
    ({"timestamp": 3}, "body.timestamp", 3),
]


@pytest.mark.parametrize(("wrong", "place", "value"), WRONG)
def test_a_wrong_field_is_named(door: Door, wrong: dict[str, object], place: str, value: object) -> None:
    with door.client() as client:
        answer = generate(client, **wrong)
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["title"], problem["status"]) == ("Bad Request", 400)
    [error] = problem["errors"]
    assert (error["location"], error["value"]) == (place, value) and error["message"]


@pytest.mark.parametrize("missing", ["width", "height", "timestampMs"])
def test_every_field_is_needed(door: Door, missing: str) -> None:
    whole = {"width": 320, "height": 180, "timestampMs": 0}
    del whole[missing]
    with door.client() as client:
        answer = client.post("/v1/api/org_123456789/videos/pubvid_AbCdEf/thumbnails", json=whole)
    assert answer.status_code == 400 and answer.json()["errors"][0]["location"] == f"body.{missing}"


def test_who_may_ask(door: Door) -> None:
    stranger = door.add_org("stranger")
    video = "/v1/api/{}/videos/{}/thumbnail"
    asked = [
        (door.key, video.format("org_123456789", "pubvid_AbCdEf"), 200, "OK"),
        ("hv_live_wrong", video.format("org_123456789", "pubvid_AbCdEf"), 401, "Unauthorized"),
        (stranger, video.format("stranger", "pubvid_AbCdEf"), 403, "Forbidden"),
        (stranger, video.format("org_123456789", "pubvid_AbCdEf"), 403, "Forbidden"),
        (door.key, video.format("org_123456789", "pubvid_none"), 404, "Not Found"),
        (door.key, "/v1/api/thumbnails/thumb_job_none", 404, "Not Found"),
    ]
    with door.client() as client:
        job = generate(client).json()["jobId"]
        for place in (f"/v1/api/thumbnails/{job}", f"/v1/api/org_123456789/thumbnails/{job}"):
            asked.append((door.key, place, 200, "OK"))
        asked.append((stranger, f"/v1/api/thumbnails/{job}", 404, "Not Found"))
        for key, place, status, title in asked:
            answer = client.get(place, headers={"X-Api-Key": key})
            assert answer.status_code == status, (place, answer.text)
            assert status == 200 or answer.json()["title"] == title
        assert httpx.get(f"{door.url}{asked[0][1]}").status_code == 401


def test_a_failed_picture_may_be_asked_for_again(door: Door) -> None:
    key = door.add_org("unlucky")
    media = door.clip.path.parent / "unlucky.mp4"
    shutil.copyfile(door.clip.path, media)
    door.register("unlucky-video", media, key)
    kept = media.rename(media.with_suffix(".gone"))
    url, wanted = "/v1/api/unlucky/videos/unlucky-video/thumbnails", {"width": 9, "height": 9, "timestampMs": 0}
    with door.client(key) as client:
        first = client.post(url, json=wanted).json()
        assert completed(client, first["jobId"])["status"] == "failed"
        kept.rename(media)
        second = client.post(url, json=wanted).json()
        assert second["jobId"] == first["jobId"] and second["status"] == "pending"
        assert completed(client, second["jobId"])["status"] == "completed"
    media.unlink()
    assert picture(second["url"]).size == (9, 9)


# Allowances.


def test_allowances_are_exact_whoever_asks_at_once(tmp_path: Path, clip: Clip) -> None:
    """Of 80 new pictures asked for by 20 clients at once exactly 50 are taken; five of them run at once at most."""
    site = Site(tmp_path, clip.path.parent)
    listen = f"127.0.0.1:{free_port()}"
    hold = 'before(os, "write", hold("all"), only=file_in("/.staging/"), fuse="hold", calls=ALWAYS)\n'
    site.light("hold")
    with site.daemon(hold, http__listen=listen, workers=7, limits__retrievals=30) as daemon:
        daemon.ready()
        door = Door(site, daemon, f"http://{listen}", "", clip)
        door.key = door.add_org("busy")
        door.register("busy-video", clip.path)
        url = "/v1/api/busy/videos/busy-video/thumbnail"
        with door.client() as client, ThreadPoolExecutor(20) as many:

            def new(at: int) -> httpx.Response:
                return client.post(url + "s", json={"width": 16, "height": 16, "timestampMs": at})

            answers = list(many.map(new, range(80)))
            codes = [answer.status_code for answer in answers]
            assert (codes.count(200), codes.count(429)) == (50, 30)
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert refused.json()["title"] == "Too Many Requests" and 0 < int(refused.headers["retry-after"]) <= 3600

            until(lambda: [r["state"] for r in site.rows("state")].count("running") == 5, "five run")
            assert [row["state"] for row in site.rows("state")].count("queued") == 45
            first = next(answer.json() for answer in answers if answer.status_code == 200)
            assert client.post(url + "s", json={"width": 16, "height": 16, "timestampMs": 0}).status_code in (200, 429)
            found = list(many.map(lambda n: client.get(url).status_code, range(40)))
            assert (found.count(200), found.count(429)) == (30, 10)
            asked = list(many.map(lambda n: client.get(f"/v1/api/thumbnails/{first['jobId']}").status_code, range(110)))
            assert (asked.count(200), asked.count(429)) == (100, 10)
        assert daemon.metrics()['thumbd_org_throttled_total{limit="generations"}'] >= 30
        site.put_out("all.held")


def test_videos_of_a_channel_that_is_another_organisations_are_refused(door: Door) -> None:
    engine = open_engine(f"sqlite:///{door.site.database}")
    with engine.begin() as connection:
        assert videos.channel_owner(connection, "org_123456789") == "org_123456789"
    engine.dispose()
    key = door.add_org("intruder")
    with door.client(key) as client:
        for id, channel in (("pubvid_AbCdEf", None), ("intruder-video", "org_123456789")):
            body = {"source": str(door.clip.path)} | ({"channel": channel} if channel else {})
            assert client.put(f"/videos/{id}", json=body).status_code == 409
