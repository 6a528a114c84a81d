"""The stubs of the wire are those of the `.proto` files, and those say what the service's own clients say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from daemon.api.yandex.proto import generate, operation_pb2, thumbnail_pb2

DESCRIBE = """
import json, sys
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from yandex.cloud.operation import operation_pb2, operation_service_pb2
from yandex.cloud.video.v1 import thumbnail_pb2, thumbnail_service_pb2
def fields(message):
    found = {f.name: [f.number, f.type, f.is_repeated, f.containing_oneof.name if f.containing_oneof else None,
                      (f.message_type or f.enum_type).full_name if f.message_type or f.enum_type else None]
             for f in message.fields}
    for nested in message.nested_types:
        found[nested.name] = fields(nested)
    for enum in message.enum_types:
        found[enum.name] = {value.name: value.number for value in enum.values}
    return found
said = {"messages": {}, "methods": {}}
for file in (operation_pb2, operation_service_pb2, thumbnail_pb2, thumbnail_service_pb2):
    for message in file.DESCRIPTOR.message_types_by_name.values():
        said["messages"][message.full_name] = fields(message)
    for service in file.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            said["methods"][method.full_name] = [method.input_type.full_name, method.output_type.full_name]
print(json.dumps(said))
"""


def test_the_stubs_are_fresh(tmp_path: Path) -> None:
    """Else: python -m daemon.api.yandex.proto.generate"""
    generate.generate(tmp_path)
    for file in generate.HERE.glob("*_pb2.py*"):
        made = tmp_path / file.relative_to(generate.ROOT)
        assert made.read_text() == file.read_text(), f"{file.name} is not what its .proto says"


def test_every_proto_has_its_stubs() -> None:
    for proto in generate.HERE.glob("*.proto"):
        for suffix in ("_pb2.py", "_pb2.pyi"):
            assert proto.with_name(proto.stem + suffix).is_file()


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """What the stubs of `yandexcloud` say, in a process of their own: the names are the same."""
    said = subprocess.run([sys.executable, "-P", "-c", DESCRIBE], check=True, capture_output=True, text=True)
    return dict(json.loads(said.stdout))


def fields(message: Descriptor) -> dict[str, Any]:
    def kind(field: FieldDescriptor) -> str | None:
        of = field.message_type or field.enum_type
        return of.full_name if of else None

    def described(field: FieldDescriptor) -> list[Any]:
        parent = field.containing_oneof
        return [field.number, field.type, field.is_repeated, parent.name if parent else None, kind(field)]

    found: dict[str, Any] = {field.name: described(field) for field in message.fields}
    found |= {nested.name: fields(nested) for nested in message.nested_types}
    found |= {enum.name: {value.name: value.number for value in enum.values} for enum in message.enum_types}
    return found


def test_messages_are_those_of_the_services_own_clients(theirs: dict[str, Any]) -> None:
    for file in (operation_pb2, thumbnail_pb2):
        for message in file.DESCRIPTOR.message_types_by_name.values():
            ours = fields(message)
            if message.name == "CreateThumbnailRequest":
                assert ours.pop("channel_id") == [1, FieldDescriptor.TYPE_STRING, False, None, None]  # of older clients
            assert ours == theirs["messages"][message.full_name], message.name


def test_calls_are_those_of_the_services_own_clients(theirs: dict[str, Any]) -> None:
    ours = {
        method.full_name: [method.input_type.full_name, method.output_type.full_name]
        for file in (operation_pb2, thumbnail_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    cancel = theirs["methods"].pop("yandex.cloud.operation.OperationService.Cancel")
    assert cancel and ours == theirs["methods"]
