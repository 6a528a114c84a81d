"""Deliveries: what was published comes to the bucket as it was asked for, whatever happens, and no key stays behind."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from buckets import KEY, SECRET, Moto, moto, rclone
from clips import RECIPES, Clip, make
from harness import Site, thumbnail, until
from listener import Call, always, listening

from daemon import s3
from daemon.errors import TargetFailure, TargetRefused
from daemon.jobs import errands, table
from daemon.net import Client, Reach
from daemon.report import Report
from daemon.s3 import S3Bucket

pytestmark = pytest.mark.daemons

HERE = {
    "deliveries__allowed_hosts": '["127.0.0.1"]',
    "deliveries__plain_hosts": '["127.0.0.1"]',
    "deliveries__first_delay": 0.05,
    "webhooks__allowed_hosts": '["127.0.0.1"]',
}


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture
def site(tmp_path: Path, clip: Clip) -> Site:
    return Site(tmp_path, clip.path.parent)


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto("films") as running:
        yield running


def to(server: Moto, path: str, **keys: Any) -> dict[str, Any]:
    return {"url": f"s3://films/{path}", "endpoint": server.endpoint, "key": KEY, "secret": SECRET, **keys}


def deliveries(site: Site, id: str) -> list[errands.Known]:
    known = site.ask(lambda c: table.get(c, None, id))
    owed = site.ask(lambda c: errands.of(c, known.key)) if known else []
    return [each for each in owed if each.kind == "delivery"]


def wait_for(site: Site, id: str, *states: str) -> list[errands.Known]:
    until(lambda: [each.state for each in deliveries(site, id)] == list(states), f"deliveries of {id} are {states}")
    return deliveries(site, id)


def check_no_secret(site: Site, *also: str) -> None:
    """Nothing of the credentials lies anywhere, and nothing sealed is left in the table."""
    for path in site.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for secret in (SECRET, KEY, *also):
                assert secret.encode() not in data, (secret, path)
    with closing(sqlite3.connect(site.database)) as connection:
        assert connection.execute("select count(*) from errands where secret is not null").fetchone() == (0,)
    assert b"v1." not in site.database.read_bytes()


def test_objects_have_names_types_and_permissions(site: Site, clip: Clip, server: Moto) -> None:
    outputs = [
        thumbnail(1, name="poster", format="webp", deliver=[to(server, "a/cover.webp", permissions="public-read")]),
        {"output": "thumbnails", "name": "series", "count": 3, "format": "jpeg", "width": 64}
        | {
            "deliver": [
                to(server, "a/pictures", cache_control="max-age=60"),
                to(server, "a/more/", permissions="private"),
            ]
        },
        {"output": "sprite", "name": "scrub", "count": 4, "layout": "jellyfin", "width": 64},
    ]
    job = {"source": str(clip.path), "outputs": outputs, "destination": "film", "id": "one"}
    with site.daemon(**HERE) as daemon:
        site.drop({**job, "deliver": [to(server, "all/", storage_class="STANDARD_IA")]})
        wait_for(site, "one", *["done"] * 4)
        metrics = daemon.metrics()
        assert metrics['thumbd_owed_finished_total{kind="delivery",outcome="done"}'] == 4
        assert metrics['thumbd_owed_duration_seconds_count{kind="delivery"}'] == 4
    series = {"series.vtt", *(f"series-000{n}.jpg" for n in (1, 2, 3))}
    all_of_it = {str(path.relative_to(site.store / "film")) for path in site.files("film")}
    names = {"a/cover.webp"} | {f"a/{folder}/{name}" for folder in ("pictures", "more") for name in series}
    assert {name for name in server.names("films") if name.startswith("a/")} == names
    assert {name.removeprefix("all/") for name in server.names("films") if name.startswith("all/")} == all_of_it
    assert "scrub.trickplay/64 - 10x10/0.jpg" in all_of_it and "manifest.json" in all_of_it
    for name in all_of_it:
        stored = server.ask(f"films/all/{name}")
        assert stored.data == (site.store / "film" / name).read_bytes()
        assert stored.headers["x-amz-storage-class"] == "STANDARD_IA"
    types = {
        "a/cover.webp": "image/webp",
        "a/pictures/series-0001.jpg": "image/jpeg",
        "all/manifest.json": "application/json",
    }
    types["a/pictures/series.vtt"] = "text/vtt; charset=utf-8"
    assert {name: server.ask(f"films/{name}").headers["content-type"] for name in types} == types
    assert server.ask("films/a/pictures/series-0001.jpg").headers["cache-control"] == "max-age=60"
    assert server.is_public("films/a/cover.webp") and not server.is_public("films/a/more/series.vtt")
    text = site.report().model_dump_json()
    assert "films" not in text and site.manifest("film") == site.report()
    [row] = site.rows()
    assert "deliver" not in row["job"] and "films" not in row["job"]
    check_no_secret(site)


def test_a_full_name_is_of_one_file_a_folder_of_many(site: Site, clip: Clip, server: Moto) -> None:
    with site.daemon(**HERE):
        poster = thumbnail(1, name="poster", deliver=[to(server, "names/folder/"), to(server, "names/other name.png")])
        site.drop(
            {"source": str(clip.path), "outputs": [poster], "id": "one", "deliver": [to(server, "names/whole.d")]}
        )
        wait_for(site, "one", *["done"] * 3)
    names = {name.removeprefix("names/") for name in server.names("films") if name.startswith("names/")}
    assert names == {"folder/poster.png", "other name.png", "whole.d/poster.png", "whole.d/manifest.json"}


def test_an_optional_output_that_was_not_made_is_not_delivered(site: Site, clip: Clip, server: Moto) -> None:
    beyond = thumbnail(1000, name="beyond", optional=True, deliver=[to(server, "beyond.png")])
    with site.daemon(**HERE):
        site.drop({"source": str(clip.path), "outputs": [thumbnail(1), beyond], "id": "one"})
        [done] = wait_for(site, "one", "done")
        assert done.message == "there was nothing to deliver"
    assert "beyond.png" not in server.names("films")


def test_a_job_that_fails_delivers_nothing_and_keeps_no_key(site: Site, clip: Clip, server: Moto) -> None:
    with site.daemon(**HERE):
        job = {"source": f"{clip.path}.missing", "outputs": [thumbnail(1)], "deliver": [to(server, "failed/")]}
        site.drop({**job, "id": "one"})
        site.report(folder="failed")
        wait_for(site, "one", "dormant")
        check_no_secret(site)
        # Run again by hand it is published, but nobody has the key any more.
        shutil.copy(clip.path, f"{clip.path}.missing")
        try:
            assert "queued again" in site.thumbd("retry", "one")
            [failed] = wait_for(site, "one", "failed")
        finally:
            Path(f"{clip.path}.missing").unlink()
        assert "submit it anew" in (failed.message or "")
    assert not any(name.startswith("failed/") for name in server.names("films"))


def test_what_is_refused_is_told_and_warned_of_in_the_callback(site: Site, clip: Clip, server: Moto) -> None:
    with listening(always(200)) as listener, site.daemon(**HERE) as daemon:
        nowhere = {**to(server, "x/"), "url": "s3://no-such-bucket/x/"}
        job = {"source": str(clip.path), "outputs": [thumbnail(1)], "deliver": [nowhere], "id": "one"}
        site.drop({**job, "callback_url": listener.url()})
        [failed] = wait_for(site, "one", "failed")
        assert failed.message == "answered 404 NoSuchBucket"
        [call] = listener.wait_for(1)
        report = Report.model_validate_json(call.body)
        assert report.status == "completed"
        assert report.warnings == ["delivery to s3://no-such-bucket/x/ failed: answered 404 NoSuchBucket"]
        said = site.thumbd("status", "one")
        assert "s3://no-such-bucket/x/" in said and "404 NoSuchBucket" in said
        assert daemon.said("delivery failed", job_id="one")
        check_no_secret(site)


def test_the_callback_waits_for_the_deliveries(site: Site, clip: Clip) -> None:
    """Which are tried until they succeed, without decoding again."""
    order: list[str] = []

    def busy(call: Call, handler: Any) -> int:
        order.append(call.method)
        return 503 if order.count("PUT") < 3 else 200

    with listening(busy) as listener, site.daemon(**HERE):
        target = {"url": "s3://films/x/", "endpoint": f"127.0.0.1:{listener.port}", "key": KEY, "secret": SECRET}
        job = {"source": str(clip.path), "outputs": [thumbnail(1)], "deliver": [target], "id": "one"}
        site.drop({**job, "callback_url": listener.url()})
        until(lambda: "POST" in order, "it is called back")
        [done] = deliveries(site, "one")
        assert (done.state, done.attempts) == ("done", 2)
    assert order == ["PUT", "PUT", "PUT", "PUT", "POST"]  # twice busy, then the picture and the manifest
    assert site.report().attempt == 1
    assert {call.path for call in listener.calls[:-1]} == {"/films/x/thumbnail-1.png", "/films/x/manifest.json"}
    assert all(SECRET not in str(call) for call in listener.calls)


@pytest.mark.parametrize("allowed", [{}, {"deliveries__endpoints": '["*"]'}])
def test_nothing_is_delivered_to_hosts_nobody_allowed(site: Site, clip: Clip, allowed: dict[str, str]) -> None:
    with listening(always(200)) as canary, site.daemon(**allowed) as daemon:
        for name, host in {"ip": "127.0.0.1", "name": "localhost", "six": "[::1]", "number": "2130706433"}.items():
            target = {"url": "s3://films/", "endpoint": f"https://{host}:{canary.port}", "key": KEY, "secret": SECRET}
            site.drop(
                {"source": str(clip.path), "outputs": [thumbnail(1)], "deliver": [target], "id": name}, f"{name}.json"
            )
            if allowed:
                [failed] = wait_for(site, name, "failed")
                assert "in the public network" in (failed.message or "")
            else:
                error = site.report(name, "failed").error
                assert error is not None and "deliveries.endpoints" in error.message
        assert daemon.is_ready()
    assert canary.calls == []
    check_no_secret(site) if allowed else None


def test_credentials_are_in_no_complaint(site: Site, clip: Clip) -> None:
    wrong: list[Any] = [
        {"url": f"s3://{KEY}:{SECRET}@films/x", "key": KEY, "secret": SECRET},
        {"url": f"ftp://{KEY}:{SECRET}@host/x", "key": KEY, "secret": SECRET},
        {"url": "s3://films/", "key": KEY, "secret": [SECRET]},
        {"url": "s3://films/", "key": KEY, "secret": SECRET, SECRET[:4]: 1},
        {"url": "s3://films/", "key": KEY, "secret": f"{SECRET}\n"},
        {"url": 1, "key": KEY, "secret": SECRET},
        SECRET,
        [SECRET],
    ]
    with site.daemon(**HERE) as daemon:
        for number, target in enumerate(wrong):
            job = {"source": str(clip.path), "outputs": [thumbnail(1)], "deliver": [target]}
            site.drop(job, f"{number}.json")
            site.drop({"source": "x", "outputs": [{"deliver": [target], "output": "none"}]}, f"output-{number}.json")
            for name in (str(number), f"output-{number}"):
                error = site.report(name, "failed").error
                assert error is not None and SECRET not in error.message and KEY not in error.message, error
        log = daemon.log_file.read_text()
        assert SECRET not in log and KEY not in log


def test_kill_9_in_the_middle_ten_times_delivers_everything(site: Site, clip: Clip, server: Moto) -> None:
    places = [
        'before(S3Bucket, "put", die)',
        'before(S3Bucket, "put", die, calls=2)',
        'after(S3Bucket, "_signed", die)',
        'after(S3Bucket, "_signed", die, calls=2)',
        'after(S3Bucket, "_failure", die)',
        'after(Box, "open", die)',
        'before(errands, "finish", die)',
        'before(errands, "put_back", die)',
        'before(errands, "claim", die, calls=3)',
        'before(lease, "complete", die)',
    ]
    prelude = (
        "from daemon.jobs import errands, lease\nfrom daemon.s3 import S3Bucket\nfrom daemon.owed.secrets import Box\n"
    )
    wrong = to(server, "") | {"url": "s3://no-such-bucket/x/"}
    busy = to(server, "") | {"endpoint": "127.0.0.1:1"}  # nobody is there
    for number, place in enumerate(places):
        also = {4: [wrong], 7: [busy]}.get(number, [])
        job = {"source": str(clip.path), "outputs": [thumbnail(1), thumbnail(2)], "id": str(number)}
        site.drop({**job, "deliver": [*also, to(server, f"killed/{number}/")]}, f"{number}.json")
        with site.daemon(f"{prelude}{place}\n", **HERE, deliveries__at_once=1, deliveries__attempts=2) as daemon:
            daemon.killed()
    with site.daemon(**HERE, deliveries__attempts=2) as daemon:
        for number in range(len(places)):
            site.check_published(site.report(str(number)))
            also = ["failed"] if number in (4, 7) else []
            wait_for(site, str(number), *also, "done")
        daemon.ready()
        check_no_secret(site)
    for number in range(len(places)):
        for path in site.files(str(number)):
            assert server.ask(f"films/killed/{number}/{path.name}").data == path.read_bytes()


def test_a_drain_gives_deliveries_back(site: Site, clip: Clip, server: Moto) -> None:
    stuck = "import asyncio\nfrom daemon.s3 import S3Bucket\nS3Bucket.put = lambda *a: asyncio.Event().wait()\n"
    site.drop({"source": str(clip.path), "outputs": [thumbnail(1)], "id": "one", "deliver": [to(server, "drained/")]})
    with site.daemon(stuck, **HERE, grace=0.2) as daemon:
        wait_for(site, "one", "running")
        daemon.signal(signal.SIGTERM)
        assert daemon.exit_code() == 0
    [given_back] = deliveries(site, "one")
    assert (given_back.state, given_back.attempts) == ("due", 0)
    with site.daemon(**HERE):
        wait_for(site, "one", "done")
    check_no_secret(site)


# The protocol itself.


def bucket(port: int, **keys: Any) -> S3Bucket:
    said = {"region": "us-east-1", "key": KEY, "secret": SECRET, **keys}
    return S3Bucket(Client(Reach(["127.0.0.1"])), f"http://127.0.0.1:{port}", "films", **said)


def put(to: S3Bucket, name: str, file: Path) -> None:
    async def whole() -> None:
        try:
            with file.open("rb") as data:
                await to.put(name, data.fileno(), "video/mp4")
        finally:
            await to.client.close()

    asyncio.run(whole())


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.mp4"
    path.write_bytes(os.urandom(2 * s3.PART + 5))
    return path


NAMES = ["plain.mp4", "a folder/ü+ä~=(1)&'$,;@:!*.mp4"]


def test_signatures_are_right(tmp_path: Path, large: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    root = tmp_path / "served"
    (root / "films").mkdir(parents=True)
    with rclone(root) as port:
        for name in NAMES:
            for file in (small, large):
                put(bucket(port, headers={"x-amz-acl": "public-read", "Cache-Control": "max-age=1"}), name, file)
                assert (root / "films" / name).read_bytes() == file.read_bytes()
        for wrong in ({"key": "ANOTHERKEY"}, {"secret": "another"}):
            with pytest.raises(TargetRefused, match="answered 403"):
                put(bucket(port, **wrong), "wrong", small)
        assert not (root / "films" / "wrong").exists()


def test_large_files_go_in_parts(server: Moto, large: Path) -> None:
    for name in NAMES:
        put(bucket(server.port, headers={"x-amz-acl": "public-read"}), f"large/{name}", large)
    stored = server.ask("films/large/plain.mp4")
    assert stored.data == large.read_bytes() and stored.headers["content-type"] == "video/mp4"
    assert server.is_public("films/large/plain.mp4")
    assert {f"large/{name}" for name in NAMES} <= server.names("films")


def test_an_upload_in_parts_that_fails_is_ended(large: Path) -> None:
    def fails(call: Call, handler: Any) -> int | None:
        if "uploads" in call.path:
            _say(handler, "<X><UploadId>a&amp;b</UploadId></X>")
            return None
        return 500 if "partNumber=2" in call.path else 200

    with listening(fails) as listener:
        with pytest.raises(TargetFailure, match="answered 500"):
            put(bucket(listener.port), "x", large)
        said = [(call.method, call.path.partition("?")[2]) for call in listener.calls]
    id = "uploadId=a%26b"
    assert said == [("POST", "uploads="), ("PUT", f"partNumber=1&{id}"), ("PUT", f"partNumber=2&{id}"), ("DELETE", id)]


def test_an_error_may_come_with_200(large: Path) -> None:
    def fails(call: Call, handler: Any) -> int | None:
        begins = "uploads" in call.path
        _say(handler, "<UploadId>u</UploadId>" if begins else "<Error><Code>InternalError</Code></Error>")
        return None

    with listening(fails) as listener, pytest.raises(TargetFailure, match="answered 200 InternalError"):
        put(bucket(listener.port), "x", large)


def _say(handler: Any, text: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text.encode())


def test_a_wrong_region_is_named(tmp_path: Path) -> None:
    def elsewhere(call: Call, handler: Any) -> None:
        handler.send_response(301)
        handler.send_header("x-amz-bucket-region", "eu-west-2")
        handler.send_header("Location", "http://127.0.0.1:1/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    (tmp_path / "f").write_bytes(b"x")
    with listening(elsewhere) as listener, pytest.raises(TargetRefused, match="the bucket's region is 'eu-west-2'"):
        put(bucket(listener.port), "x", tmp_path / "f")


def test_files_that_are_gone_are_said(site: Site, clip: Clip, server: Moto) -> None:
    late = "import asyncio\nfrom daemon.owed.delivery import Deliveries\n"
    late += "Deliveries.pay = lambda *given: asyncio.Event().wait()\n"
    site.drop({"source": str(clip.path), "outputs": [thumbnail(1)], "id": "one", "deliver": [to(server, "gone/")]})
    with site.daemon(late, **HERE):
        report = site.report()
    (site.store / report.outputs[0].path).unlink()
    with site.daemon(**HERE):
        [failed] = wait_for(site, "one", "failed")
    assert failed.message and "is not in the store any more" in failed.message


def test_the_schema_knows_targets(site: Site) -> None:
    schema = json.loads(site.thumbd("schema"))
    assert set(schema["$defs"]["Target"]["required"]) == {"url", "key", "secret"}
    assert {"callback_url", "deliver", "ttl"} <= schema["properties"].keys()
