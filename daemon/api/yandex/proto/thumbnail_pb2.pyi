import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from daemon.api.yandex.proto import operation_pb2 as _operation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Thumbnail(_message.Message):
    __slots__ = ("id", "channel_id", "episode_id", "video_id", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    EPISODE_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    channel_id: str
    episode_id: str
    video_id: str
    created_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., channel_id: _Optional[str] = ..., episode_id: _Optional[str] = ..., video_id: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetThumbnailRequest(_message.Message):
    __slots__ = ("thumbnail_id",)
    THUMBNAIL_ID_FIELD_NUMBER: _ClassVar[int]
    thumbnail_id: str
    def __init__(self, thumbnail_id: _Optional[str] = ...) -> None: ...

class ListThumbnailRequest(_message.Message):
    __slots__ = ("channel_id", "episode_id", "video_id", "page_size", "page_token")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    EPISODE_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    episode_id: str
    video_id: str
    page_size: int
    page_token: str
    def __init__(self, channel_id: _Optional[str] = ..., episode_id: _Optional[str] = ..., video_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListThumbnailResponse(_message.Message):
    __slots__ = ("thumbnails", "next_page_token")
    THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    thumbnails: _containers.RepeatedCompositeFieldContainer[Thumbnail]
    next_page_token: str
    def __init__(self, thumbnails: _Optional[_Iterable[_Union[Thumbnail, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreateThumbnailRequest(_message.Message):
    __slots__ = ("channel_id", "episode_id", "video_id")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    EPISODE_ID_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    episode_id: str
    video_id: str
    def __init__(self, channel_id: _Optional[str] = ..., episode_id: _Optional[str] = ..., video_id: _Optional[str] = ...) -> None: ...

class CreateThumbnailMetadata(_message.Message):
    __slots__ = ("thumbnail_id",)
    THUMBNAIL_ID_FIELD_NUMBER: _ClassVar[int]
    thumbnail_id: str
    def __init__(self, thumbnail_id: _Optional[str] = ...) -> None: ...

class BatchGenerateDownloadURLsRequest(_message.Message):
    __slots__ = ("channel_id", "thumbnail_ids")
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_IDS_FIELD_NUMBER: _ClassVar[int]
    channel_id: str
    thumbnail_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channel_id: _Optional[str] = ..., thumbnail_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchGenerateDownloadURLsResponse(_message.Message):
    __slots__ = ("download_urls",)
    DOWNLOAD_URLS_FIELD_NUMBER: _ClassVar[int]
    download_urls: _containers.RepeatedCompositeFieldContainer[ThumbnailDownloadURL]
    def __init__(self, download_urls: _Optional[_Iterable[_Union[ThumbnailDownloadURL, _Mapping]]] = ...) -> None: ...

class ThumbnailDownloadURL(_message.Message):
    __slots__ = ("thumbnail_id", "original_url", "scaled_urls")
    class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ThumbnailDownloadURL.ImageFormat]
        JPEG: _ClassVar[ThumbnailDownloadURL.ImageFormat]
        WEBP: _ClassVar[ThumbnailDownloadURL.ImageFormat]
    IMAGE_FORMAT_UNSPECIFIED: ThumbnailDownloadURL.ImageFormat
    JPEG: ThumbnailDownloadURL.ImageFormat
    WEBP: ThumbnailDownloadURL.ImageFormat
    class ScaledURL(_message.Message):
        __slots__ = ("url", "max_width", "max_height", "image_format")
        URL_FIELD_NUMBER: _ClassVar[int]
        MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
        MAX_HEIGHT_FIELD_NUMBER: _ClassVar[int]
        IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
        url: str
        max_width: int
        max_height: int
        image_format: ThumbnailDownloadURL.ImageFormat
        def __init__(self, url: _Optional[str] = ..., max_width: _Optional[int] = ..., max_height: _Optional[int] = ..., image_format: _Optional[_Union[ThumbnailDownloadURL.ImageFormat, str]] = ...) -> None: ...
    THUMBNAIL_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_URL_FIELD_NUMBER: _ClassVar[int]
    SCALED_URLS_FIELD_NUMBER: _ClassVar[int]
    thumbnail_id: str
    original_url: str
    scaled_urls: _containers.RepeatedCompositeFieldContainer[ThumbnailDownloadURL.ScaledURL]
    def __init__(self, thumbnail_id: _Optional[str] = ..., original_url: _Optional[str] = ..., scaled_urls: _Optional[_Iterable[_Union[ThumbnailDownloadURL.ScaledURL, _Mapping]]] = ...) -> None: ...

class GenerateThumbnailUploadURLRequest(_message.Message):
    __slots__ = ("thumbnail_id",)
    THUMBNAIL_ID_FIELD_NUMBER: _ClassVar[int]
    thumbnail_id: str
    def __init__(self, thumbnail_id: _Optional[str] = ...) -> None: ...

class GenerateThumbnailUploadURLResponse(_message.Message):
    __slots__ = ("upload_url",)
    UPLOAD_URL_FIELD_NUMBER: _ClassVar[int]
    upload_url: str
    def __init__(self, upload_url: _Optional[str] = ...) -> None: ...

class DeleteThumbnailRequest(_message.Message):
    __slots__ = ("thumbnail_id",)
    THUMBNAIL_ID_FIELD_NUMBER: _ClassVar[int]
    thumbnail_id: str
    def __init__(self, thumbnail_id: _Optional[str] = ...) -> None: ...

class DeleteThumbnailMetadata(_message.Message):
    __slots__ = ("thumbnail_id",)
    THUMBNAIL_ID_FIELD_NUMBER: _ClassVar[int]
    thumbnail_id: str
    def __init__(self, thumbnail_id: _Optional[str] = ...) -> None: ...
