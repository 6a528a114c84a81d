"""What many tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateSchema, DropSchema

POSTGRES = "THUMBD_TEST_POSTGRES"

settings.register_profile("thumbd", deadline=None)  # a machine that is busy is no fault
settings.load_profile("thumbd")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test clips are made, once a session."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind; of the PostgreSQL server that THUMBD_TEST_POSTGRES names, a schema of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'thumbd.db'}"
        return
    if not (said := os.environ.get(POSTGRES)):
        pytest.skip(f"{POSTGRES} holds no URL of a PostgreSQL server, as in postgresql://user@127.0.0.1/thumbd")
    url, schema = make_url(said), f"thumbd_test_{uuid4().hex}"
    server = create_engine(url.set(drivername="postgresql+psycopg"))
    with server.begin() as connection:
        connection.execute(CreateSchema(schema))
    options = {"options": f"-csearch_path={schema} -cstatement_timeout=20000"}
    yield url.update_query_dict(options).render_as_string(hide_password=False)
    with server.begin() as connection:
        connection.execute(DropSchema(schema, cascade=True))
    server.dispose()
