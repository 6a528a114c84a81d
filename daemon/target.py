"""Where what a job made goes besides the store: a bucket, and how its objects are to be.

The credentials come with the target and are taken out of it (`sealed_part`, `open_part`) before it is stored anywhere.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SECRETS = frozenset({"key", "secret"})
_SCHEMES = ("s3", "gs", "az", "azblob")
_REFUSED = {
    "ftp": "FTP",
    "ftps": "FTP",
    "sftp": "SFTP",
    "b2": "B2's own protocol (its S3 endpoint is: write s3://bucket/… with endpoint)",
}
_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"


def _check_url(url: str) -> str:
    # What is wrong is told without the URL: somebody may have written a password into it.
    scheme, parted, rest = url.partition("://")
    if not parted:
        raise ValueError('a target is a URL such as "s3://bucket/folder/"')
    if scheme in _REFUSED:
        raise ValueError(
            f"{scheme}:// is not supported: deliveries go by S3, Google or Azure, not by {_REFUSED[scheme]}"
        )
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme[:20]!r} is no scheme of a target: {', '.join(_SCHEMES)} are")
    bucket, _, path = rest.partition("/")
    if "@" in bucket:
        raise ValueError("give key and secret beside the URL, not in it")
    if not re.fullmatch(_BUCKET, bucket):
        raise ValueError(f"{scheme}:// must be followed by the name of a bucket")
    if not path.isprintable() or "?" in path or "#" in path:
        raise ValueError("the path in a target's URL must not hold ?, # or control characters")
    if len(path.encode()) > 700 or any(part in ("", ".", "..") for part in path.removesuffix("/").split("/")[:-1]):
        raise ValueError("the path in a target's URL has at most 700 bytes, and no empty parts, . or ..")
    return url


def _check_endpoint(endpoint: str) -> str:
    found = re.fullmatch(rf"(?:https?://)?{_HOST}(?::(?P<port>\d{{1,5}}))?/?", endpoint)
    if found is None:
        raise ValueError('an endpoint is a host such as "s3.eu-west-2.amazonaws.com", with :port if need be')
    if int(found["port"] or 0) > 65535:
        raise ValueError("an endpoint's port is at most 65535")
    return endpoint.removesuffix("/")


class Target(BaseModel):
    """A bucket and a path in it. A path that ends with `/` is a folder; else it is the whole name of an output that is
    one file. `endpoint`: of S3, other than Amazon's. `key` and `secret`: of Azure the account and its key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=1000), AfterValidator(_check_url)]
    endpoint: Annotated[str, Field(max_length=300), AfterValidator(_check_endpoint)] | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] | None = None
    key: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[!-~]+$", repr=False)]
    secret: Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[!-~]+$", repr=False)]
    permissions: Literal["private", "public-read"] | None = None
    storage_class: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,40}$")] | None = None
    cache_control: Annotated[str, Field(max_length=200, pattern=r"^[ -~]+$")] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.endpoint is not None and self.scheme != "s3":
            raise ValueError(f"{self.scheme}:// has an endpoint of its own: leave out endpoint")
        if self.is_azure and not re.fullmatch(r"[a-z0-9]{3,24}", self.key):
            raise ValueError("key: must be the name of the Azure account")
        if self.permissions is not None and self.is_azure:
            raise ValueError("permissions: Azure gives them to containers, not to single objects: leave them out")
        return self

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def is_azure(self) -> bool:
        return self.scheme in ("az", "azblob")

    @property
    def bucket(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def path(self) -> str:
        """Below the bucket; "" is all of it."""
        return self.url.partition("://")[2].partition("/")[2]

    def object_name(self, file: str, *, alone: bool) -> str:
        """The name in the bucket of a file; `alone`: there is no other with it, so that the path may be its name."""
        if alone and self.path and not self.path.endswith("/"):
            return self.path
        return f"{self.path.rstrip('/')}/{file}".lstrip("/")

    def open_part(self) -> dict[str, Any]:
        """All but the credentials."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(SECRETS))

    def sealed_part(self) -> dict[str, Any]:
        """The credentials."""
        return self.model_dump(mode="json", include=set(SECRETS))
