"""URLs that only the daemon can make: HMAC-SHA-256 with a secret that is a row, so that daemons of one table agree."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, select

from daemon.tables import now, signing_keys


@dataclass(frozen=True)
class Signer:
    """`keys`: id -> secret; all of them are believed, the one called `newest` signs."""

    keys: Mapping[str, bytes] = field(repr=False)
    newest: str

    def mac(self, *parts: str, key: str | None = None) -> str:
        """The first 128 bits, hexadecimal, of the HMAC over the parts; no two lists of parts look alike to it."""
        said = [part.encode(errors="surrogatepass") for part in parts]
        text = b"".join(len(part).to_bytes(4) + part for part in said)
        return hmac.new(self.keys[key or self.newest], text, hashlib.sha256).hexdigest()[:32]

    def is_mac(self, mac: str, *parts: str) -> bool:
        """Whether one of the keys gives this for the parts."""
        return any(hmac.compare_digest(self.mac(*parts, key=key).encode(), _ascii(mac)) for key in self.keys)

    def sign(self, method: str, path: str, expires: int) -> str:
        """The query of a URL that is good for this method and path until `expires`, in seconds since 1970."""
        return f"expires={expires}&key={self.newest}&signature={self.mac(method, path, str(expires), self.newest)}"

    def is_signed(self, method: str, path: str, expires: str, key: str, signature: str, at: float) -> bool:
        """Whether the query's values are right for this method and path at the time `at`."""
        if key not in self.keys or not (expires.isascii() and expires.isdecimal() and len(expires) <= 12):
            return False
        mac = self.mac(method, path, expires, key, key=key)
        return hmac.compare_digest(mac.encode(), _ascii(signature)) and at <= int(expires)


def _ascii(said: str) -> bytes:
    return said.encode("ascii", errors="replace")


def signer(connection: Connection) -> Signer:
    """The signer of this table's keys; makes the first key."""
    if not connection.execute(select(func.count()).select_from(signing_keys)).scalar():
        rotate(connection)
    rows = connection.execute(select(signing_keys).order_by(signing_keys.c.created_at, signing_keys.c.id)).all()
    return Signer({row.id: bytes.fromhex(row.secret) for row in rows}, rows[-1].id)


def rotate(connection: Connection) -> None:
    """A new key signs from now on. URLs of the older ones stay good."""
    values = {"id": secrets.token_hex(4), "secret": secrets.token_hex(32), "created_at": now()}
    connection.execute(insert(signing_keys).values(values))
