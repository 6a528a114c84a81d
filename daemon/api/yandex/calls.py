"""Each call of the service as messages: what gRPC and REST share. A message comes in, its values go to `Thumbnails`,
and what comes of it goes back as a message."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from daemon.api.yandex.proto import operation_pb2, thumbnail_pb2
from daemon.api.yandex.proto.operation_pb2 import GetOperationRequest
from daemon.api.yandex.proto.operation_pb2 import Operation as OperationMessage
from daemon.api.yandex.proto.thumbnail_pb2 import (
    BatchGenerateDownloadURLsRequest,
    BatchGenerateDownloadURLsResponse,
    CreateThumbnailMetadata,
    CreateThumbnailRequest,
    DeleteThumbnailMetadata,
    DeleteThumbnailRequest,
    GenerateThumbnailUploadURLRequest,
    GenerateThumbnailUploadURLResponse,
    GetThumbnailRequest,
    ListThumbnailRequest,
    ListThumbnailResponse,
    ThumbnailDownloadURL,
)
from daemon.api.yandex.proto.thumbnail_pb2 import Thumbnail as ThumbnailMessage
from daemon.api.yandex.thumbnails import Download, Parent, Thumbnails
from daemon.catalogue.operations import Operation, Repeat
from daemon.catalogue.thumbnails import Thumbnail
from daemon.errors import BadRequest, Complaint

_LONGEST_KEY = 200  # characters of an idempotency key
_FORMATS = {"jpeg": ThumbnailDownloadURL.JPEG, "webp": ThumbnailDownloadURL.WEBP}


@dataclass(frozen=True)
class Ask:
    """`service` is asked for `org`; `repeat` where the sender may send the same request again."""

    service: Thumbnails
    org: str
    repeat: Repeat | None


@dataclass(frozen=True)
class Call:
    """`name` as gRPC has it, as in `/yandex.cloud.video.v1.ThumbnailService/Get`."""

    name: str
    request: type[Message]
    answer: Callable[[Ask, Any], Awaitable[Message]]

    async def run(self, service: Thumbnails, org: str, request: Message, key: str | None) -> Message:
        """`key` is the idempotency key. Raises a Failure."""
        return await self.answer(Ask(service, org, self._repeat(request, key)), request)

    def _repeat(self, request: Message, key: str | None) -> Repeat | None:
        if not key:
            return None
        if len(key) > _LONGEST_KEY or not (key.isascii() and key.isprintable()):
            message = f"at most {_LONGEST_KEY} printable characters, such as a UUID"
            raise BadRequest(f"idempotency-key: {message}", [Complaint(message, "idempotency-key")])
        return Repeat(key, self.name.encode() + request.SerializeToString(deterministic=True))


async def _get(ask: Ask, request: GetThumbnailRequest) -> Message:
    return _thumbnail(await ask.service.get(ask.org, request.thumbnail_id))


async def _list(ask: Ask, request: ListThumbnailRequest) -> Message:
    page = await ask.service.page(ask.org, _parent(request), request.page_size, request.page_token)
    return ListThumbnailResponse(thumbnails=map(_thumbnail, page.thumbnails), next_page_token=page.next)


async def _create(ask: Ask, request: CreateThumbnailRequest) -> Message:
    return _operation(await ask.service.create(ask.org, _parent(request), ask.repeat))


async def _batch(ask: Ask, request: BatchGenerateDownloadURLsRequest) -> Message:
    found = await ask.service.downloads(ask.org, request.channel_id, request.thumbnail_ids)
    return BatchGenerateDownloadURLsResponse(download_urls=map(_download, found))


async def _upload_url(ask: Ask, request: GenerateThumbnailUploadURLRequest) -> Message:
    return GenerateThumbnailUploadURLResponse(upload_url=await ask.service.upload_url(ask.org, request.thumbnail_id))


async def _delete(ask: Ask, request: DeleteThumbnailRequest) -> Message:
    return _operation(await ask.service.delete(ask.org, request.thumbnail_id, ask.repeat))


async def _get_operation(ask: Ask, request: GetOperationRequest) -> Message:
    return _operation(await ask.service.operation(ask.org, request.operation_id))


_THUMBNAILS = thumbnail_pb2.DESCRIPTOR.services_by_name["ThumbnailService"]
_OPERATIONS = operation_pb2.DESCRIPTOR.services_by_name["OperationService"]


def _call(method: MethodDescriptor, answer: Callable[[Ask, Any], Awaitable[Message]]) -> Call:
    return Call(f"/{method.containing_service.full_name}/{method.name}", GetMessageClass(method.input_type), answer)


GET = _call(_THUMBNAILS.methods_by_name["Get"], _get)
LIST = _call(_THUMBNAILS.methods_by_name["List"], _list)
CREATE = _call(_THUMBNAILS.methods_by_name["Create"], _create)
BATCH = _call(_THUMBNAILS.methods_by_name["BatchGenerateDownloadURLs"], _batch)
UPLOAD_URL = _call(_THUMBNAILS.methods_by_name["GenerateUploadURL"], _upload_url)
DELETE = _call(_THUMBNAILS.methods_by_name["Delete"], _delete)
GET_OPERATION = _call(_OPERATIONS.methods_by_name["Get"], _get_operation)
CALLS = (GET, LIST, CREATE, BATCH, UPLOAD_URL, DELETE, GET_OPERATION)
SERVICES: Mapping[str, tuple[Call, ...]] = {
    service.full_name: tuple(call for call in CALLS if call.name.startswith(f"/{service.full_name}/"))
    for service in (_THUMBNAILS, _OPERATIONS)
}


def _parent(request: ListThumbnailRequest | CreateThumbnailRequest) -> Parent:
    """What a request names; a channel that is "" names none."""
    named = request.WhichOneof("parent_id")
    return Parent(
        episode=request.episode_id if named == "episode_id" else None,
        video=request.video_id if named == "video_id" else None,
        channel=request.channel_id or None,
    )


def _thumbnail(thumbnail: Thumbnail) -> ThumbnailMessage:
    return ThumbnailMessage(
        id=thumbnail.id,
        channel_id=thumbnail.channel,
        video_id=thumbnail.video,
        created_at=_timestamp(thumbnail.created_at),
    )


def _download(download: Download) -> ThumbnailDownloadURL:
    scaled = [
        ThumbnailDownloadURL.ScaledURL(
            url=url, max_width=box.width, max_height=box.height, image_format=_FORMATS[box.format]
        )
        for box, url in download.scaled
    ]
    return ThumbnailDownloadURL(thumbnail_id=download.id, original_url=download.original, scaled_urls=scaled)


def _operation(operation: Operation) -> OperationMessage:
    created_at, thumbnail = _timestamp(operation.created_at), operation.thumbnail
    metadata: Message
    response: Message
    if operation.kind == "create":
        description, metadata = "Create thumbnail", CreateThumbnailMetadata(thumbnail_id=thumbnail.id)
        response = _thumbnail(thumbnail)
    else:
        description, metadata = "Delete thumbnail", DeleteThumbnailMetadata(thumbnail_id=thumbnail.id)
        response = Empty()
    return OperationMessage(
        id=operation.id,
        description=description,
        created_at=created_at,
        created_by=operation.org,
        modified_at=created_at,
        done=True,
        metadata=_any(metadata),
        response=_any(response),
    )


def _any(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1_000_000))
    return stamp
