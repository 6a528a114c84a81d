"""Objects in Azure's containers, by obstore: block blobs, in blocks where they are large. The host is always
`<account>.blob.core.windows.net`, which nobody can point elsewhere."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore

from daemon.errors import TargetFailure, TargetRefused

if TYPE_CHECKING:
    from obstore import Attributes

PART = 8 << 20  # bytes


def azure_store(container: str, account: str, key: str, timeout: float) -> AzureStore:
    """Raises TargetRefused where the key is none."""
    options = {"timeout": f"{timeout:.0f}s", "connect_timeout": f"{timeout:.0f}s"}
    try:
        return AzureStore(
            container,
            account_name=account,
            account_key=key,
            client_options=options,  # type: ignore[arg-type]
            retry_config={"max_retries": 0},
        )
    except (BaseError, ValueError) as error:
        raise TargetRefused("secret is no key of an Azure account") from error


@dataclass(frozen=True)
class AzureContainer:
    """`attributes` go with every object: `Cache-Control`, `Storage-Class`."""

    store: AzureStore
    attributes: Mapping[str, str]

    async def put(self, name: str, descriptor: int, content_type: str) -> None:
        """Makes, or replaces, an object of an open file. Raises TargetFailure, TargetRefused."""
        about: Attributes = {**self.attributes, "Content-Type": content_type}
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                await obstore.put_async(self.store, name, file, attributes=about, chunk_size=PART, max_concurrency=1)
        except (NotFoundError, FileNotFoundError) as error:
            raise TargetRefused("answered that there is no such container") from error
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise TargetRefused("answered that the account or its key is wrong") from error
        except BaseError as error:
            raise TargetFailure("the object could not be written") from error
