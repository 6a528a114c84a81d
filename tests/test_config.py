"""Settings: the documented file is true, the environment wins, and whatever is wrong is named."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from daemon.config import BadSettings, Settings, load

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("THUMBD_")]:
        monkeypatch.delenv(name)


def test_the_documented_file_shows_every_key_with_its_default() -> None:
    shown = tomllib.loads((CONFIGS / "thumbd.toml").read_text())
    assert shown == Settings().model_dump(mode="json")


def test_every_key_of_the_documented_file_is_explained() -> None:
    for line in (CONFIGS / "thumbd.toml").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            assert len(line.split("# ", 1)[1]) > 10, line


@pytest.mark.parametrize("name", ["thumbd.toml", "dev.toml", "gpu.toml"])
def test_the_files_are_taken(name: str) -> None:
    load(CONFIGS / name)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text('workers = 3\n[job]\ntimeout = 5\nstall = 6\n[sources]\nroots = ["/a"]\n')
    monkeypatch.setenv("THUMBD_JOB__TIMEOUT", "7")
    monkeypatch.setenv("THUMBD_SOURCES__ROOTS", '["/media", "/more"]')
    settings = load(file)
    assert (settings.workers, settings.job.timeout, settings.job.stall) == (3, 7.0, 6.0)
    assert settings.sources.roots == (Path("/media"), Path("/more"))


def test_the_file_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text("workers = 3\n")
    monkeypatch.setenv("THUMBD_CONFIG", str(file))
    assert load(None).workers == 3
    file.write_text("workers = 4\n")
    other = tmp_path / "b.toml"
    other.write_text("workers = 5\n")
    assert load(other).workers == 5


@pytest.mark.parametrize(
    ("name", "hint"), [("THUMBD_SORCES__ROOTS", "is it THUMBD_SOURCES?"), ("THUMBD_X", "configs/thumbd.toml shows")]
)
def test_a_misspelt_variable_is_refused(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(BadSettings) as refusal:
        load(None)
    assert refusal.value.message.startswith(f"the environment: {name} names no setting") and hint in str(refusal.value)


@pytest.mark.parametrize("name", ["API_KEY", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP_ADDR"])
def test_variables_of_a_pod_and_of_the_command_are_no_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"THUMBD_{name}", "tcp://10.0.0.1:8080")
    load(None)


WRONG: list[tuple[str, str]] = [
    ("wokers = 1", "wokers: unknown key"),
    ("[job]\ntimout = 1", "job.timout: unknown key"),
    ("workers = 'many'", "workers: "),
    ("[job]\ntimeout = 0", "job.timeout: "),
    ("device = 'gpu'", "device: "),
    ("[gpu]\nresize = 'area'", "gpu.resize: "),
    ("[gpu]\njpeg_pixels = -1", "gpu.jpeg_pixels: "),
    ("[metrics]\nlisten = '9464'", "metrics.listen: write host:port"),
    ("[store]\nbackground = 'black'", "store.background: "),
    ("[grpc]\nlisten = '50051'", "grpc.listen: write host:port"),
    *(
        (f"[yandex]\nboxes = ['{box}']", "yandex.boxes[0]: write WIDTHxHEIGHT")
        for box in ("320", "0x1", "1x4097", "axb")
    ),
    ("[yandex]\nformats = ['PNG']", "yandex.formats[0]: "),
    ("[yandex]\nurl_life = 59", "yandex.url_life: "),
    ("[store]\nurl = 's3://bucket'", "store: a bucket needs credentials: give store.s3.key and store.s3.secret"),
    ("[store]\nurl = 'gs://bucket'", "store.url: "),
    ("[store]\nurl = 's3://bucket/a/../b'\ns3 = {key = 'k', secret = 's'}", "store: url: 's3://bucket/a/../b' has"),
    ("[store.s3]\nendpoint = 'minio:9000'", "store.s3.endpoint: write a URL"),
    ("[sources]\nprivate_hosts = ['127.1']", "sources.private_hosts: write a host"),
    ("[webhooks]\nallowed_hosts = ['http://hooks/']", "webhooks.allowed_hosts: write a host"),
    ("[deliveries]\nendpoints = ['s3.*.example']", "deliveries.endpoints: write a host"),
    ("[deliveries]\nplain_hosts = ['minio:0']", "deliveries.plain_hosts: write a host"),
    ("workers = ", "is no TOML"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_in_the_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(BadSettings) as refusal:
        load(file)
    assert said in refusal.value.message


@pytest.mark.parametrize(("name", "value"), [("THUMBD_JOB__TIMEOUT", "-1"), ("THUMBD_SOURCES__ROOTS", "/media")])
def test_what_is_wrong_in_the_environment_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refusal:
        load(None)
    assert name.removeprefix("THUMBD_").lower().split("__")[0] in refusal.value.message.lower()
    assert "TOML" not in refusal.value.message


def test_credentials_of_the_store_are_in_no_text_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[store]\nurl = "s3://bucket/prefix"\n[store.s3]\nkey = "TheKey"\nsecret = "TheSecret"\n')
    settings = load(file)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "TheKey" not in text and "TheSecret" not in text
    file.write_text(file.read_text() + "secrt = 1\n")
    with pytest.raises(BadSettings) as refusal:
        load(file)
    assert "store.s3.secrt: unknown key" in refusal.value.message
    assert "TheKey" not in refusal.value.message and "TheSecret" not in refusal.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"\xff\xfe = 1")
    with pytest.raises(BadSettings, match=r"a\.toml' is no TOML"):
        load(file)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tomllib, "load", refuse)
    with pytest.raises(BadSettings, match=r"a\.toml' cannot be read: Permission denied"):
        load(file)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:9464", "localhost:65535", "0.0.0.0:1"])
def test_addresses(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBD_METRICS__LISTEN", listen)
    assert load(None).metrics.listen == listen


@pytest.mark.parametrize(
    "listen", ["", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "a:-1"]
)
def test_what_is_no_address(listen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBD_METRICS__LISTEN", listen)
    with pytest.raises(BadSettings, match=r"metrics\.listen: write host:port"):
        load(None)


def test_a_part_of_a_section_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file, from the environment, and from both."""
    file = tmp_path / "a.toml"
    file.write_text('[spool]\nroot = "/spool"\n')
    monkeypatch.setenv("THUMBD_SPOOL__WATCH", "false")
    monkeypatch.setenv("THUMBD_RETENTION__JOBS", "5")
    settings, default = load(file), Settings.model_construct()
    assert settings.spool == default.spool.model_copy(update={"root": Path("/spool"), "watch": False})
    assert settings.retention == default.retention.model_copy(update={"jobs": 5.0})


def test_workers_and_threads_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers, threads in ((1, 2, 1), (2, 2, 2), (8, 4, 2), (64, 32, 2)):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, cores=cores: range(cores))
        assert (Settings().worker_processes, Settings().worker_threads) == (workers, threads)
    monkeypatch.setenv("THUMBD_WORKERS", "7")
    monkeypatch.setenv("THUMBD_THREADS", "3")
    assert (load(None).worker_processes, load(None).worker_threads) == (7, 3)


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    for changed in (settings, settings.spool):
        with pytest.raises(ValidationError):
            changed.root = Path("/else")  # type: ignore[union-attr]


def test_nothing_is_read_where_there_is_nothing() -> None:
    said: dict[str, Any] = Settings().model_dump()
    assert load(None).model_dump() == said
