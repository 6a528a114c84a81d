"""The settings: a TOML file and the environment (`THUMBD_…`, nested with `__`). Only the composition root and the
command line see them; `configs/thumbd.toml` shows every key."""

import os
import re
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from daemon.addresses import Hosts
from daemon.complaints import explain
from daemon.errors import Failure
from daemon.media.choice import Resize

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=0)]

_PREFIX = "THUMBD_"
_NO_SETTINGS = ("CONFIG", "API_KEY")  # of ours, too
_OF_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT(_\w+)?)|PORT(_\w+)?")  # what pods get where a service is named thumbd


def _check_hosts(said: tuple[str, ...]) -> tuple[str, ...]:
    Hosts(said)
    return said


HostPatterns = Annotated[tuple[str, ...], AfterValidator(_check_hosts)]


def _text(said: object) -> object:
    if not isinstance(said, str | SecretStr):
        raise ValueError("write it as text")  # without saying what it is
    return said


Secret = Annotated[SecretStr, BeforeValidator(_text)]


class BadSettings(Failure):
    """A setting is wrong; the message names it and its place."""

    code = "bad_settings"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GpuSettings(_Section):
    """What is for cards alone; with `device` cpu it has to be left out."""

    resize: Resize = "kernel"
    jpeg_pixels: Annotated[int, Field(ge=0)] = 0


class SpoolSettings(_Section):
    root: Path = Path("thumbd-data/spool")
    scan_seconds: Positive = 2.0
    watch: bool = True
    settle_seconds: Positive = 30.0
    max_queued: Count = 100_000
    min_free_bytes: Bytes = 1 << 30


class _S3(_Section):
    """Where buckets are, and whose they are."""

    endpoint: str = ""
    region: Annotated[str, Field(pattern="^[a-z0-9-]{1,50}$")] = "us-east-1"
    key: Secret = SecretStr("")
    secret: Secret = SecretStr("")

    @field_validator("endpoint")
    @classmethod
    def _url(cls, said: str) -> str:
        if said and not re.fullmatch(r"https?://[^/?#@\s]+/?", said):
            raise ValueError(f'write a URL without a path, as in "https://s3.example:9000", not {said!r}')
        if said:
            Hosts([said.rstrip("/").partition("://")[2]])
        return said.rstrip("/")

    @property
    def place(self) -> str:
        """The URL of the endpoint; without one that of AWS in the region."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"


class StoreSettings(_Section):
    root: Path = Path("thumbd-data/store")
    url: Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\s]{0,500})?)?$")] = ""
    s3: _S3 = _S3()
    background: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] = "#000000"

    @model_validator(mode="after")
    def _whose(self) -> Self:
        if self.url and not (self.s3.key.get_secret_value() and self.s3.secret.get_secret_value()):
            raise ValueError("a bucket needs credentials: give store.s3.key and store.s3.secret")
        if any(part in ("", ".", "..") for part in self.url.removeprefix("s3://").rstrip("/").split("/")[1:]):
            raise ValueError(f"url: {self.url!r} has empty parts or dots")
        return self


class S3Settings(_S3):
    buckets: tuple[str, ...] = ()


class SourcesSettings(_Section):
    roots: tuple[Path, ...] = ()
    max_bytes: Count = 1 << 40
    aliases: dict[str, Path] = {}
    schemes: tuple[Literal["https", "http", "s3"], ...] = ()
    allowed_hosts: HostPatterns = ()
    private_hosts: HostPatterns = ()
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (80, 443)
    whole_bytes: Bytes = 16 << 20
    kept_bytes: Annotated[int, Field(ge=1 << 20)] = 16 << 20
    connect_seconds: Positive = 10.0
    silence_seconds: Positive = 30.0
    piece_seconds: Positive = 120.0
    tries: Count = 4
    s3: S3Settings = S3Settings()

    @field_validator("aliases")
    @classmethod
    def _urls_of_folders(cls, said: dict[str, Path]) -> dict[str, Path]:
        for begin in said:
            if not re.fullmatch(r"[a-z0-9+.-]+://[^?#]*/", begin):
                raise ValueError(f'write how URLs begin, up to a slash, as in "https://cdn.example/", not {begin!r}')
        return said


class JobSettings(_Section):
    timeout: Positive = 3600.0
    stall: Positive = 60.0
    attempts: Count = 3
    retry_delay: Positive = 2.0
    pictures: Count = 20_000
    riders: Annotated[int, Field(ge=0, le=1000)] = 64
    lease: Positive = 30.0
    held_bytes: Count = 64 << 20
    decoded_bytes: Count = 1 << 28


def _host_and_port(said: str) -> str:
    host, parted, port = said.rpartition(":")
    if not parted or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f'write host:port, as in "127.0.0.1:9464", not {said!r}')
    return said


def _listen(said: str) -> str:
    return said and _host_and_port(said)


Address = Annotated[str, AfterValidator(_host_and_port)]
AddressOrNone = Annotated[str, AfterValidator(_listen)]


class MetricsSettings(_Section):
    listen: Address = "127.0.0.1:9464"


class HttpSettings(_Section):
    listen: AddressOrNone = "127.0.0.1:8080"
    public_url: Annotated[str, Field(pattern=r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$")] = ""
    url_life: Annotated[int, Field(ge=60, le=365 * 86400)] = 12 * 3600

    @property
    def base_url(self) -> str:
        """What every URL that is given out begins with."""
        return self.public_url.rstrip("/") or f"http://{self.listen}"


class LimitsSettings(_Section):
    """An organisation's allowances an hour."""

    generations: Bytes = 50
    status_calls: Bytes = 100
    retrievals: Bytes = 1000


class HesedVidSettings(_Section):
    fit: Literal["cover", "pad", "stretch"] = "cover"


def _box(said: str) -> str:
    width, parted, height = said.partition("x")
    if not parted or not all(side.isdecimal() and 1 <= int(side) <= 4096 for side in (width, height)):
        raise ValueError(f'write WIDTHxHEIGHT, each from 1 to 4096, as in "320x180", not {said[:40]!r}')
    return said


class GrpcSettings(_Section):
    listen: AddressOrNone = "127.0.0.1:50051"
    reflection: bool = False


class YandexSettings(_Section):
    boxes: Annotated[tuple[Annotated[str, AfterValidator(_box)], ...], Field(max_length=16)] = (
        "320x180",
        "640x360",
        "1280x720",
    )
    formats: tuple[Literal["JPEG", "WEBP"], ...] = ("JPEG", "WEBP")
    url_life: Annotated[int, Field(ge=60, le=365 * 86400)] = 12 * 3600
    upload_bytes: Annotated[int, Field(ge=1, le=1 << 28)] = 16 << 20
    upload_pixels: Annotated[int, Field(ge=1, le=64_000_000)] = 40_000_000


class WebhooksSettings(_Section):
    enabled: bool = True
    allowed_hosts: HostPatterns = ()
    secret: Annotated[str, Field(repr=False)] = ""
    timeout: Positive = 10.0
    at_once: Count = 16
    attempts: Count = 8
    first_delay: Positive = 5.0
    longest_delay: Positive = 3600.0


class DeliveriesSettings(_Section):
    enabled: bool = True
    endpoints: HostPatterns = ("*.amazonaws.com", "storage.googleapis.com", "*.blob.core.windows.net")
    allowed_hosts: HostPatterns = ()
    plain_hosts: HostPatterns = ()
    timeout: Positive = 60.0
    at_once: Count = 4
    attempts: Count = 8
    first_delay: Positive = 5.0
    longest_delay: Positive = 3600.0


class SecretsSettings(_Section):
    key: Annotated[str, Field(repr=False)] = ""
    key_file: Path = Path("thumbd-data/secrets.key")


class QencodeSettings(_Section):
    token_seconds: Annotated[float, Field(ge=60)] = 86400.0
    temporary_hours: Annotated[float, Field(gt=0, le=10 * 365 * 24)] = 24.0


class UploadsSettings(_Section):
    root: Path = Path("thumbd-data/uploads")
    max_bytes: Count = 1 << 36
    org_bytes: Count = 1 << 37
    hours: Positive = 24.0


class RetentionSettings(_Section):
    reports: Positive = 30 * 86400.0
    jobs: Positive = 90 * 86400.0


class LogSettings(_Section):
    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """All of it. Frozen, and checked at the start."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    threads: Annotated[int, Field(ge=0, le=64)] = 0
    grace: Positive = 30.0
    database: str = "sqlite:///thumbd-data/thumbd.db"
    gpu: GpuSettings = GpuSettings()
    spool: SpoolSettings = SpoolSettings()
    store: StoreSettings = StoreSettings()
    sources: SourcesSettings = SourcesSettings()
    job: JobSettings = JobSettings()
    http: HttpSettings = HttpSettings()
    limits: LimitsSettings = LimitsSettings()
    hesedvid: HesedVidSettings = HesedVidSettings()
    grpc: GrpcSettings = GrpcSettings()
    yandex: YandexSettings = YandexSettings()
    qencode: QencodeSettings = QencodeSettings()
    uploads: UploadsSettings = UploadsSettings()
    metrics: MetricsSettings = MetricsSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    deliveries: DeliveriesSettings = DeliveriesSettings()
    secrets: SecretsSettings = SecretsSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _doors_of_their_own(self) -> Self:
        said = {"http": self.http.listen, "metrics": self.metrics.listen, "grpc": self.grpc.listen}
        for (one, address), (other, another) in combinations(said.items(), 2):
            if address == another and address and not address.endswith(":0"):
                raise ValueError(f"{one}.listen and {other}.listen are both {address}: give one another port")
        return self

    @property
    def worker_processes(self) -> int:
        """0 in the settings means: as many as keep the cores busy, and two at least, for small jobs leave gaps."""
        return self.workers or max(2, cores() // self.worker_threads)

    @property
    def worker_threads(self) -> int:
        return self.threads or min(2, cores())


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _check_environment() -> None:
    """Raises BadSettings where a variable of ours names no setting. (Of one within a section the section says so.)"""
    for name in os.environ:
        key = name.removeprefix(_PREFIX)
        known = key.partition("__")[0].lower() in Settings.model_fields or key in _NO_SETTINGS
        if name != key and not known and not _OF_KUBERNETES.fullmatch(key):
            near = get_close_matches(key.partition("__")[0].lower(), Settings.model_fields, n=1)
            hint = f" (is it {_PREFIX}{near[0].upper()}?)" if near else ""
            raise BadSettings(f"the environment: {name} names no setting{hint}: configs/thumbd.toml shows them all")


def load(path: Path | None) -> Settings:
    """Of the given file, else of THUMBD_CONFIG, and of the environment, which wins. Raises BadSettings."""
    _check_environment()
    file = path or (Path(said) if (said := os.environ.get("THUMBD_CONFIG")) else None)
    if file is not None and not file.is_file():
        raise BadSettings(f"the configuration {str(file)!r} is not there: give --config a TOML file")

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, TomlConfigSettingsSource(settings_cls, file)

    try:
        return FromFile()
    except ValidationError as error:
        raise BadSettings(f"settings: {explain(error)}") from None
    except SettingsError as error:
        raise BadSettings(f"the environment: {error}: write lists as JSON, as in ROOTS='[\"/media\"]'") from None
    except OSError as error:
        raise BadSettings(f"the configuration {str(file)!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadSettings(f"the configuration {str(file)!r} is no TOML: {error}") from None
