"""Objects for Azure's containers, as a server sees them come: names, types, and a signature of the account."""

import asyncio
import base64
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from listener import Call, always, listening
from obstore.store import AzureStore

from daemon.errors import TargetFailure, TargetRefused
from daemon.owed import azure
from daemon.owed.azure import AzureContainer, azure_store

KEY = base64.b64encode(b"k" * 64).decode()


def put(port: int, name: str, file: Path) -> None:
    store = AzureStore(
        "films",
        account_name="account",
        account_key=KEY,
        endpoint=f"http://127.0.0.1:{port}/account",
        client_options={"allow_http": True, "timeout": "5s"},
        retry_config={"max_retries": 0},
    )
    with file.open("rb") as data:
        container = AzureContainer(store, {"Cache-Control": "max-age=60"})
        asyncio.run(container.put(name, data.fileno(), "image/webp"))


def created(call: Call, handler: Any) -> None:
    handler.send_response(201)
    for name, value in {"ETag": '"x"', "Last-Modified": "Sun, 22 Nov 2026 03:00:00 GMT", "Content-Length": "0"}.items():
        handler.send_header(name, value)
    handler.end_headers()


def test_a_small_file_is_one_blob(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"picture")
    with listening(created) as listener:
        put(listener.port, "a folder/ü.webp", tmp_path / "f")
        [call] = listener.calls
    assert (call.method, unquote(call.path.split("?")[0])) == ("PUT", "/account/films/a folder/ü.webp")
    assert call.body == b"picture" and call.headers["x-ms-blob-type"] == "BlockBlob"
    types = {value for name, value in call.headers.items() if name.endswith("content-type")}
    assert types == {"image/webp"} and call.headers["x-ms-blob-cache-control"] == "max-age=60"
    assert call.headers["authorization"].startswith("SharedKey account:") and KEY not in str(call)


def test_a_large_file_goes_in_blocks(tmp_path: Path) -> None:
    data = bytes(range(256)) * (azure.PART // 256) + b"and more"
    (tmp_path / "f").write_bytes(data)
    with listening(created) as listener:
        put(listener.port, "film.mp4", tmp_path / "f")
        blocks = [call for call in listener.calls if "comp=block&" in f"{call.path}&"]
        assert b"".join(call.body for call in blocks) == data and len(blocks) == 2
        assert "comp=blocklist" in listener.calls[-1].path


@pytest.mark.parametrize(("status", "kind"), [(404, TargetRefused), (403, TargetRefused), (500, TargetFailure)])
def test_what_is_answered(tmp_path: Path, status: int, kind: type[TargetFailure]) -> None:
    (tmp_path / "f").write_bytes(b"picture")
    with listening(always(status)) as listener, pytest.raises(TargetFailure) as caught:
        put(listener.port, "x", tmp_path / "f")
    assert type(caught.value) is kind and "127.0.0.1" not in caught.value.message


def test_keys_that_are_none() -> None:
    with pytest.raises(TargetRefused, match="no key of an Azure account"):
        azure_store("films", "account", "not base64!", 5)
