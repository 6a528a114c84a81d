"""`python -m daemon.api.yandex.proto.generate [FOLDER]`: makes the stubs of the `.proto` files anew.

Needs grpcio-tools (the extra `test`), in the version that pyproject.toml names: another one may write other words.
"""

import sys
from pathlib import Path

import google.rpc
import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).parent
ROOT = HERE.parents[3]


def generate(folder: Path) -> None:
    """Writes the stubs below `folder`, under the names that they have in the repository."""
    protos = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("*.proto"))
    # Google's own definitions: of protobuf in grpcio-tools, of `google.rpc` in googleapis-common-protos.
    known = [Path(grpc_tools.__file__).parent / "_proto", *(Path(place).parents[1] for place in google.rpc.__path__)]
    places = [f"-I{place}" for place in (ROOT, *known)]
    code = protoc.main(["protoc", *places, f"--python_out={folder}", f"--pyi_out={folder}", *protos])
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
