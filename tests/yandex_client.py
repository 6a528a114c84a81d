"""Yandex's own stubs (package `yandexcloud`) as a program: a call as a line of JSON comes in, its outcome goes out.

A program of its own, for the daemon's messages have the same names, and one process can know a name only once.
"""

import base64
import json
import sys
import time
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2, status_pb2
from yandex.cloud.operation import operation_service_pb2, operation_service_pb2_grpc
from yandex.cloud.video.v1 import thumbnail_pb2, thumbnail_service_pb2, thumbnail_service_pb2_grpc
from yandexcloud._operation_waiter import OperationWaiter

REQUESTS = {
    "Get": thumbnail_service_pb2.GetThumbnailRequest,
    "List": thumbnail_service_pb2.ListThumbnailRequest,
    "Create": thumbnail_service_pb2.CreateThumbnailRequest,
    "BatchGenerateDownloadURLs": thumbnail_service_pb2.BatchGenerateDownloadURLsRequest,
    "GenerateUploadURL": thumbnail_service_pb2.GenerateThumbnailUploadURLRequest,
    "Delete": thumbnail_service_pb2.DeleteThumbnailRequest,
    "Operation": operation_service_pb2.GetOperationRequest,
}


def main() -> None:
    channel = grpc.insecure_channel(sys.argv[1])
    thumbnails = thumbnail_service_pb2_grpc.ThumbnailServiceStub(channel)
    operations = operation_service_pb2_grpc.OperationServiceStub(channel)
    for line in sys.stdin:
        asked = json.loads(line)
        metadata = [(name, value) for name, value in asked["metadata"]]
        if asked["call"] == "wait":
            print(json.dumps(wait(operations, asked["request"]["operation_id"], metadata)), flush=True)
            continue
        method = operations.Get if asked["call"] == "Operation" else getattr(thumbnails, asked["call"])
        request = ParseDict(asked["request"], REQUESTS[asked["call"]]())
        future = method.future(request, metadata=metadata, timeout=asked["timeout"])
        if asked["cancel"]:
            time.sleep(asked["cancel"])
            future.cancel()
        print(json.dumps(outcome(future)), flush=True)


def outcome(future: Any) -> dict[str, Any]:
    try:
        answer, code = future.result(), "OK"
        message = MessageToDict(answer, preserving_proto_field_name=True)
        raw = base64.b64encode(answer.SerializeToString()).decode()
    except grpc.FutureCancelledError:
        return {"code": "CANCELLED", "message": {}, "details": "", "request_id": "", "raw": ""}
    except grpc.RpcError as error:
        code, message, raw = error.code().name, {}, ""
    return {"code": code, "message": message, "details": future.details(), "request_id": of(future), "raw": raw}


def of(future: Any) -> str:
    """The request's id in the details of an error."""
    for name, value in future.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            info = error_details_pb2.RequestInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info.request_id
    return ""


def wait(operations: Any, id: str, metadata: Any) -> dict[str, Any]:
    """As `yandexcloud.SDK` waits for an operation; its response as what the client knows it to be."""

    class Service:
        def Get(self, request: Any) -> Any:
            return operations.Get(request, metadata=metadata)

    waiter = OperationWaiter(id, Service(), 30)
    for _ in waiter:
        time.sleep(0.1)
    operation = waiter.operation
    made = thumbnail_pb2.Thumbnail()
    return {"done": waiter.done, "thumbnail": MessageToDict(made) if operation.response.Unpack(made) else None}


if __name__ == "__main__":
    main()
