"""Sealing of credentials: AES-256-GCM, bound to the errand they belong to, and marked with which key sealed them."""

import base64
import binascii
import contextlib
import os
from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daemon.errors import Failure, TargetRefused

_KEY_BYTES, _NONCE_BYTES = 32, 12


class BadKey(Failure):
    """The key that seals credentials cannot be used as it is set: whoever runs the daemon can mend that."""

    code = "bad_key"
    retry = True


class Box:
    """Seals text with one key of 32 bytes, which is asked for when it is needed first. Its verbs raise BadKey."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key_source = key

    @cached_property
    def _key(self) -> bytes:
        return self._key_source()

    @property
    def _cipher(self) -> AESGCM:
        return AESGCM(self._key)

    @property
    def _mark(self) -> str:
        return sha256(b"thumbd key mark" + self._key).hexdigest()[:8]

    def seal(self, text: str, owner: str) -> str:
        """Text that `open` turns back, for the same owner only."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), owner.encode())
        return f"v1.{self._mark}.{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, owner: str) -> str:
        """Raises TargetRefused where it was sealed with another key, for another owner, or altered."""
        version, mark, text = (*sealed.split("."), "", "")[:3]
        if version == "v1" and mark != self._mark:
            raise TargetRefused("its credentials were sealed with another key: give all daemons the same secrets.key")
        try:
            raw = base64.b64decode(text, validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise TargetRefused("its credentials in the job table were altered") from error


def box_of(key: str, file: Path) -> Box:
    """Of the key given as base64, else of the key file, which is made when there is something to seal. Raises BadKey
    where the key given is none."""
    if key:
        given = _read(key, "secrets.key")
        return Box(lambda: given)
    return Box(lambda: _key_in(file))


def _key_in(file: Path) -> bytes:
    try:
        try:
            text = file.read_text()
        except FileNotFoundError:
            text = _make(file)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadKey(f"secrets.key_file {file}: {why}: name a file that the daemon may read and make") from None
    return _read(text.strip(), f"secrets.key_file {file}")


def _read(text: str, place: str) -> bytes:
    with contextlib.suppress(binascii.Error, ValueError):
        if len(key := base64.b64decode(text, validate=True)) == _KEY_BYTES:
            return key
    raise BadKey(f"{place}: must be {_KEY_BYTES} bytes in base64, as `openssl rand -base64 {_KEY_BYTES}` makes them")


def _make(file: Path) -> str:
    """A new key in a file that only its owner may read. Of daemons that start together one makes it: a link is made
    whole, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mine = file.with_name(f".{file.name}.{os.urandom(8).hex()}.tmp")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as writer:
            writer.write(base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
            writer.flush()
            os.fsync(writer.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(mine, file)
    finally:
        mine.unlink()
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return file.read_text()
