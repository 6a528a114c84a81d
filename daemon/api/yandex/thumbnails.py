"""What the calls of Yandex Cloud Video's ThumbnailService mean: plain values in, plain values out.

A thumbnail is a picture that a job made of a registered video, or an upload. There are no episodes here: whoever names
one is told that it does not exist. What is another organisation's looks exactly like what does not exist.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedRandom
from mmap import ACCESS_READ, mmap
from typing import Literal

from sqlalchemy import Connection

from daemon.catalogue import operations, thumbnails, videos
from daemon.catalogue.operations import Operation, Repeat
from daemon.catalogue.thumbnails import Place, Thumbnail
from daemon.darkroom import Box, Darkroom
from daemon.errors import BadRequest, Complaint, Conflict, DecodeFailed, FailedPrecondition, NotFound, SourceRefused
from daemon.fields import SUFFIX
from daemon.service import Service
from daemon.store.headers import gif_is_whole, picture_header
from daemon.threads import in_thread

LONGEST_ID = 50  # characters
LONGEST_TOKEN = 15_000
LARGEST_PAGE = 100
LARGEST_BATCH = 100
_ID = re.compile(r"[A-Za-z0-9._-]+")  # no other one was ever given out
Uploaded = Literal["png", "jpeg", "gif"]
# What the worker calls it.
_CODECS: dict[Uploaded, tuple[str, ...]] = {"png": ("png", "apng"), "jpeg": ("jpeg",), "gif": ("gif",)}


@dataclass(frozen=True)
class Terms:
    """`boxes`: the scaled versions of every thumbnail. `url_life` in seconds. `upload_bytes` and `upload_pixels`: of
    the largest upload."""

    boxes: Sequence[Box]
    url_life: int
    upload_bytes: int
    upload_pixels: int


@dataclass(frozen=True)
class Parent:
    """Of a thumbnail, as a request names it; `channel` is how older clients did. None is what it does not name."""

    episode: str | None = None
    video: str | None = None
    channel: str | None = None


@dataclass(frozen=True)
class Page:
    """`next` is the token of the page after it, "" after the last."""

    thumbnails: Sequence[Thumbnail]
    next: str


@dataclass(frozen=True)
class Download:
    """Where a thumbnail's picture is: "" and nothing before its upload."""

    id: str
    original: str
    scaled: Sequence[tuple[Box, str]]


class Thumbnails:
    """All calls are made by an organisation, but for those of signed URLs. Raise BadRequest, NotFound and Overloaded
    besides what they say."""

    def __init__(self, service: Service, darkroom: Darkroom, terms: Terms) -> None:
        self.service = service
        self.terms = terms
        self._darkroom = darkroom

    async def get(self, org: str, id: str) -> Thumbnail:
        _check_id("thumbnail_id", id)
        return await self.service.ask(lambda c: _own(c, org, id))

    async def page(self, org: str, parent: Parent, size: int, token: str) -> Page:
        """The newest first. What is made or removed between two pages moves nothing else from one to the other."""
        _check_parent(parent)
        if parent == Parent():
            raise _wrong("name video_id, or channel_id", "video_id")
        if not 0 <= size <= LARGEST_PAGE:
            raise _wrong(f"at least 0 and at most {LARGEST_PAGE}", "page_size", size)
        most = size or LARGEST_PAGE
        after = self._place(org, parent, token) if token else None

        def chosen(connection: Connection) -> list[Thumbnail]:
            channel = _channel(connection, org, parent)
            among = channel if parent.video is None else None
            video = parent.video
            return thumbnails.latest(connection, org, video=video, channel=among, after=after, most=most + 1)

        found = await self.service.ask(chosen)
        shown = found[:most]
        return Page(shown, self._token(org, parent, shown[-1]) if len(found) > most else "")

    async def create(self, org: str, parent: Parent, repeat: Repeat | None) -> Operation:
        _check_parent(parent)
        if parent == Parent():
            raise _wrong("name video_id, or episode_id: exactly one", "video_id")
        if (refusal := self.service.refusal()) is not None:
            raise refusal

        def create(connection: Connection) -> Operation:
            def made() -> Thumbnail:
                return thumbnails.create(connection, org, parent.video, _channel(connection, org, parent))

            return operations.change(connection, org, "create", repeat, made)

        return await self.service.ask(create)

    async def downloads(self, org: str, channel: str, ids: Sequence[str]) -> list[Download]:
        """In the order of the ids. All of them must be in the channel."""
        _check_id("channel_id", channel)
        if not 1 <= len(ids) <= LARGEST_BATCH:
            raise _wrong(f"at least 1 and at most {LARGEST_BATCH} of them, not {len(ids)}", "thumbnail_ids")
        for number, id in enumerate(ids):
            _check_id(f"thumbnail_ids[{number}]", id, required=False)

        def find(connection: Connection) -> dict[str, Thumbnail]:
            _channel(connection, org, Parent(channel=channel))
            return thumbnails.of_ids(connection, org, channel, [id for id in set(ids) if _ID.fullmatch(id)])

        found = await self.service.ask(find)
        if (missing := next((id for id in ids if id not in found), None)) is not None:
            raise NotFound(f"there is no thumbnail {missing!r} in channel {channel!r}")
        return [self._download(found[id]) for id in ids]

    async def upload_url(self, org: str, id: str) -> str:
        """Raises FailedPrecondition where a job made the picture, Conflict where it was uploaded already."""
        thumbnail = await self.get(org, id)
        if not thumbnail.uploaded:
            raise FailedPrecondition(f"thumbnail {id!r} was made by a job: create another one to upload to")
        if thumbnail.path is not None:
            raise Conflict(f"thumbnail {id!r} has its picture already: create another one for another picture")
        return self.service.signed_url("PUT", f"/uploads/{id}", self.terms.url_life)

    async def delete(self, org: str, id: str, repeat: Repeat | None) -> Operation:
        """An upload is gone with its file; the file of a picture that a job made stays what the job published."""
        _check_id("thumbnail_id", id)

        def delete(connection: Connection) -> Operation:
            def removed() -> Thumbnail:
                thumbnail = _own(connection, org, id)
                thumbnails.remove(connection, thumbnail)
                return thumbnail

            return operations.change(connection, org, "delete", repeat, removed)

        operation = await self.service.ask(delete)
        await self._darkroom.forget_all(org, id)
        return operation

    async def operation(self, org: str, id: str) -> Operation:
        _check_id("operation_id", id)
        found = await self.service.ask(lambda c: operations.get(c, org, id)) if _ID.fullmatch(id) else None
        if found is None:
            raise NotFound(f"there is no operation {id!r}")
        return found

    # Signed URLs.

    async def upload(self, id: str, format: Uploaded, file: BufferedRandom) -> None:
        """Takes the picture of a thumbnail, in the format that its sender says it has. The same one may come twice.
        Raises Conflict where another one was there before, and what a picture that is none raises."""
        if (refusal := self.service.refusal()) is not None:
            raise refusal
        thumbnail = await self._known(id)
        descriptor = file.fileno()
        sha256 = await in_thread(self._look, file, format)
        if thumbnail.path is None:
            facts = await self._darkroom.examine(descriptor)
            if facts.codec not in _CODECS[format]:
                raise _lying(format, facts.codec)
            path = await self._darkroom.keep(thumbnail.org, id, descriptor, SUFFIX[format])
            if await self.service.ask(lambda c: thumbnails.uploaded(c, id, path, sha256)):
                return
            await self._darkroom.forget(path)
        if await self.service.ask(lambda c: thumbnails.sha256_of(c, id)) != sha256:
            await self._known(id)
            raise Conflict("another picture was uploaded here before: create another thumbnail for this one")

    async def scaled(self, id: str, box: Box) -> str:
        """The path, below the store's root, of a scaled version."""
        thumbnail = await self._known(id)
        if thumbnail.path is None:
            raise NotFound("nothing was uploaded yet")
        return await self._darkroom.scaled(thumbnail.org, id, thumbnail.path, box)

    async def _known(self, id: str) -> Thumbnail:
        found = await self.service.ask(lambda c: thumbnails.get(c, id)) if _ID.fullmatch(id) else None
        if found is None:
            raise NotFound("this thumbnail was deleted, or its video")
        return found

    def _look(self, file: BufferedRandom, format: Uploaded) -> str:
        """The SHA-256 of an open file, hexadecimal, once its header says the right things."""
        if os.fstat(file.fileno()).st_size == 0:
            raise _lying(format, "empty")
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            header = picture_header(data)
            if header is None or header[0] != format:
                raise _lying(format, header[0] if header else "something else")
            width, height = header[1]
            if width * height > (most := self.terms.upload_pixels):
                raise SourceRefused(f"the picture is {width}x{height}: at most {most} pixels are taken")
            if format == "gif" and not gif_is_whole(data):
                raise DecodeFailed("the picture is cut short: send a whole one")
            return hashlib.sha256(data).hexdigest()

    def _download(self, thumbnail: Thumbnail) -> Download:
        if thumbnail.path is None:
            return Download(thumbnail.id, "", ())
        life, signed = self.terms.url_life, self.service.signed_url
        scaled = [(box, signed("GET", f"/thumbnails/{thumbnail.id}/{box.file}", life)) for box in self.terms.boxes]
        return Download(thumbnail.id, self.service.file_url(thumbnail.path, life), scaled)

    # Page tokens: the last place that was shown, which only the daemon can say for this list.

    def _token(self, org: str, parent: Parent, last: Thumbnail) -> str:
        video = last.video or ""
        return f"{self.service.signer.mac(*_list(org, parent), last.id, video)}.{last.id}.{video}"

    def _place(self, org: str, parent: Parent, token: str) -> Place:
        if len(token) > LONGEST_TOKEN:
            raise _wrong(f"at most {LONGEST_TOKEN} characters", "page_token")
        mac, *place = token.split(".", 2)
        if len(place) < 2 or not self.service.signer.is_mac(mac, *_list(org, parent), *place):
            raise _wrong("take it from the next_page_token of a page of the same list", "page_token")
        return Place(*place)


def _own(connection: Connection, org: str, id: str) -> Thumbnail:
    found = thumbnails.get(connection, id) if _ID.fullmatch(id) else None
    if found is None or found.org != org:
        raise NotFound(f"there is no thumbnail {id!r}")
    return found


def _channel(connection: Connection, org: str, parent: Parent) -> str:
    """The channel that is named, or that of the video: an organisation's own, else NotFound."""
    if parent.episode is not None:
        raise NotFound(f"there is no episode {parent.episode!r}")
    channel = parent.channel
    if channel is not None:
        owner = videos.channel_owner(connection, channel) if _ID.fullmatch(channel) else None
        if owner != org:
            raise NotFound(f"there is no channel {channel!r}")
    if parent.video is not None:
        video = videos.get(connection, parent.video) if _ID.fullmatch(parent.video) else None
        if video is None or video.org != org or channel not in (None, video.channel):
            raise NotFound(f"there is no video {parent.video!r}")
        return video.channel
    return channel or ""


def _check_parent(parent: Parent) -> None:
    named = {"episode_id": parent.episode, "video_id": parent.video, "channel_id": parent.channel}
    for place, id in named.items():
        if id is not None:
            _check_id(place, id)


def _check_id(place: str, id: str, *, required: bool = True) -> None:
    if required and not id:
        raise _wrong("it is required", place)
    if len(id) > LONGEST_ID:
        raise _wrong(f"at most {LONGEST_ID} characters, not {len(id)}", place, id)


def _list(org: str, parent: Parent) -> tuple[str, ...]:
    return "page", org, *("" if id is None else f"={id}" for id in (parent.video, parent.channel))


def _wrong(message: str, place: str, value: object = None) -> BadRequest:
    return BadRequest(f"{place}: {message}", [Complaint(message, place, value)])


def _lying(said: str, found: str) -> BadRequest:
    return _wrong(f"image/{said} was said, but the picture is {found}", "header.content-type")
