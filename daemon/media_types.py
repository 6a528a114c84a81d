"""What the files that thumbd makes are called on the wire."""

from pathlib import PurePosixPath

_TYPES = {
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".vtt": "text/vtt; charset=utf-8",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".json": "application/json",
    ".bif": "application/octet-stream",
}


def media_type(file: str) -> str:
    """Of a file by its name."""
    return _TYPES.get(PurePosixPath(file).suffix.lower(), "application/octet-stream")
