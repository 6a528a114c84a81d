"""Credentials lie sealed: with one key, for one errand; and the key is nobody else's to read."""

import base64
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemon.errors import BadJob, TargetRefused
from daemon.job import Job
from daemon.owed.promise import Promise, refuse_owing
from daemon.owed.secrets import BadKey, Box, box_of

KEY = base64.b64encode(bytes(range(32))).decode()
NOWHERE = Path("/nowhere/secrets.key")
TARGET = {"url": "s3://films/", "key": "AKIDEXAMPLE", "secret": "s3cr3t"}


def test_what_is_sealed_is_opened_by_the_same_key_for_the_same_errand() -> None:
    box = box_of(KEY, NOWHERE)
    sealed = box.seal("s3cr3t ü", "errand")
    assert "s3cr3t" not in sealed and sealed != box.seal("s3cr3t ü", "errand")
    assert box_of(KEY, NOWHERE).open(sealed, "errand") == "s3cr3t ü"
    for wrong, owner in ((sealed, "other"), (sealed[:-8] + "AAAAAAA=", "errand"), ("", "errand"), ("v1..x", "errand")):
        with pytest.raises(TargetRefused):
            box.open(wrong, owner)
    with pytest.raises(TargetRefused, match="another key"):
        Box(lambda: bytes(32)).open(sealed, "errand")


@pytest.mark.parametrize("key", ["x", "AAAA", base64.b64encode(bytes(31)).decode(), "ü" * 44])
def test_a_key_that_is_none_is_refused_at_once(key: str) -> None:
    with pytest.raises(BadKey, match=r"secrets\.key: must be 32 bytes in base64") as caught:
        box_of(key, NOWHERE)
    assert key not in caught.value.message.replace("openssl rand -base64", "")


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "secrets.key"
    boxes = [box_of("", file) for _ in range(8)]
    assert not file.exists()  # nobody needs it yet
    sealed: list[str] = []
    makers = [threading.Thread(target=lambda box=box: sealed.append(box.seal("x", "e"))) for box in boxes]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [boxes[0].open(each, "e") for each in sealed] == ["x"] * 8
    assert file.stat().st_mode & 0o777 == 0o600 and os.listdir(file.parent) == [file.name]


def test_a_key_file_that_is_none_is_told_of_where_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "file").touch()
    for name in ("text", "bytes", "file/below", ""):
        box = box_of("", tmp_path / name)
        with pytest.raises(BadKey, match=r"secrets\.key_file"):
            box.seal("x", "e")
        job = Job.check({"source": "x", "outputs": [{"output": "thumbnail", "at": 1}], "deliver": [TARGET]})
        with pytest.raises(BadJob, match=r"deliver\[0\]: its credentials cannot be sealed: secrets\.key_file"):
            Promise(box.seal, True, lambda target: None).of(job)


def test_a_job_is_stored_without_what_it_owes() -> None:
    box = box_of(KEY, NOWHERE)
    thumbnail = {"output": "thumbnail", "at": 1, "name": "one", "ttl": "2h", "deliver": [TARGET, TARGET]}
    job = Job.check(
        {
            "source": "x",
            "outputs": [thumbnail, {"output": "thumbnail", "at": 2, "name": "two"}],
            "deliver": [TARGET],
            "callback_url": "https://host/x?token=t0ken",
            "payload": "p",
            "ttl": 60,
        }
    )
    stored, errands = Promise(box.seal, True, lambda target: None).of(job, "qencode")
    text = stored.model_dump_json()
    assert not any(said in text for said in ("s3cr3t", "AKID", "films", "t0ken")) and stored.payload == "p"
    assert Job.read(stored.model_dump_json(exclude_defaults=True)) == stored
    told = [(e.kind, e.event, e.dialect, e.delay, e.target.get("output"), e.target.get("outputs")) for e in errands]
    assert told == [
        ("callback", "completed", "qencode", 0.0, None, None),
        ("callback", "failed", "qencode", 0.0, None, None),
        ("delivery", "completed", "", 0.0, None, None),
        ("delivery", "completed", "", 0.0, "one", None),
        ("delivery", "completed", "", 0.0, "one", None),
        ("expiry", "completed", "", 7200.0, None, ["one"]),
        ("expiry", "completed", "", 60.0, None, ["two"]),
    ]
    for errand in errands:
        assert "s3cr3t" not in str(errand) and "AKID" not in str(errand)
        if errand.secret is not None:
            assert box.open(errand.secret, errand.key) == '{"key": "AKIDEXAMPLE", "secret": "s3cr3t"}'
    assert sum(errand.secret is not None for errand in errands) == 3


@pytest.mark.parametrize(
    "more",
    [{"callback_url": "https://h/"}, {"deliver": [TARGET]}, {"ttl": 1}]
    + [{"outputs": [{"output": "thumbnail", "at": 1, **also}]} for also in ({"ttl": 1}, {"deliver": [TARGET]})],
)
def test_one_job_without_a_daemon_owes_nothing(more: dict[str, object]) -> None:
    job = Job.check({"source": "x", "outputs": [{"output": "thumbnail", "at": 1}], **more})
    with pytest.raises(BadJob, match="only a daemon does what comes after a job"):
        refuse_owing(job)


def test_no_traceback_shows_what_variables_hold(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import structlog; from daemon.log import set_up; set_up({format!r}, 'info')\n"
        "def fail(secret):\n    raise ValueError('broken')\n"
        "try:\n    fail('s3cr3' + 't')\nexcept ValueError:\n    structlog.get_logger().exception('internal error')\n"
    )
    for format in ("text", "json"):
        subprocess.run([sys.executable, "-P", "-c", code.format(format=format)], check=True)
        said = capfd.readouterr().err
        assert "broken" in said and "s3cr3t" not in said
