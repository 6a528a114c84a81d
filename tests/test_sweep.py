"""A sweep that cannot go on ends nothing: what is left is swept the next time."""

import asyncio
from typing import Any
from unittest.mock import create_autospec

import pytest
from sqlalchemy.exc import OperationalError

from daemon.darkroom import Darkroom
from daemon.database import Database
from daemon.errors import StoreFailure
from daemon.intake.spool import Spool
from daemon.store.folder import Folder
from daemon.sweep import Retention, Sweeper
from daemon.uploads import Uploads


@pytest.mark.parametrize(
    ("part", "verb", "error"),
    [
        ("spool", "forget_reports", OSError("gone")),
        ("database", "run", OperationalError("select", {}, Exception("gone"))),
        ("darkroom", "kept", StoreFailure("looking into orgs failed")),
        ("uploads", "sweep", StoreFailure("gone")),
    ],
)
def test_whatever_cannot_be_reached_is_swept_the_next_time(part: str, verb: str, error: Exception) -> None:
    parts: dict[str, Any] = {
        "database": create_autospec(Database, instance=True),
        "store": create_autospec(Folder, instance=True),
        "spool": create_autospec(Spool, instance=True),
        "darkroom": create_autospec(Darkroom, instance=True),
        "uploads": create_autospec(Uploads, instance=True),
    }
    parts["database"].run.return_value = 0  # nothing is old
    parts["darkroom"].kept.return_value = []
    sweeper = Sweeper(**parts, keep=Retention(1, 1, 1))
    asyncio.run(sweeper.all_that_is_old())
    parts["uploads"].sweep.assert_awaited_once()
    getattr(parts[part], verb).side_effect = error
    asyncio.run(sweeper.all_that_is_old())
