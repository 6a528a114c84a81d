"""What many tests share. On a GPU machine without network hypothesis and SQLAlchemy may be missing: `test_gpu.py` needs
neither."""

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

POSTGRES = "TEST_POSTGRES"

with contextlib.suppress(ImportError):
    from hypothesis import settings

    settings.register_profile("thumbd", deadline=None)  # a machine that is busy is no fault
    settings.load_profile("thumbd")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a GPU is said to be there no test may be skipped for want of one."""
    report = yield
    if report.skipped and item.get_closest_marker("gpu") and os.environ.get("REQUIRE_GPU") == "1":
        report.outcome, report.longrepr = "failed", f"skipped, with REQUIRE_GPU=1: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test clips are made, once a session."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind; of the PostgreSQL server that TEST_POSTGRES names, a schema of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'thumbd.db'}"
        return
    if not (said := os.environ.get(POSTGRES)):
        pytest.skip(f"{POSTGRES} holds no URL of a PostgreSQL server, as in postgresql://user@127.0.0.1/thumbd")
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.schema import CreateSchema, DropSchema

    url, schema = make_url(said), f"thumbd_test_{uuid4().hex}"
    server = create_engine(url.set(drivername="postgresql+psycopg"))
    with server.begin() as connection:
        connection.execute(CreateSchema(schema))
    options = {"options": f"-csearch_path={schema} -cstatement_timeout=20000"}
    yield url.update_query_dict(options).render_as_string(hide_password=False)
    with server.begin() as connection:
        connection.execute(DropSchema(schema, cascade=True))
    server.dispose()
