"""The thumbnails of videos and channels, and what is remembered of changes, on both databases."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import Connection, Engine, text, update

from daemon.catalogue import operations, thumbnails, videos
from daemon.catalogue.artifacts import Origin, announce, show
from daemon.catalogue.operations import REMEMBERED, Repeat
from daemon.catalogue.thumbnails import Place
from daemon.catalogue.videos import Video
from daemon.database import open_engine
from daemon.errors import BadRequest
from daemon.report import OutputReport, SourceFacts
from daemon.tables import artifacts
from daemon.tables import operations as operations_table

FACTS = SourceFacts(duration=10.0, width=64, height=36, codec="h264", fps=25.0)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def video(
    connection: Connection, id: str, org: str = "acme", identity: str | None = None, channel: str | None = None
) -> Video:
    made = videos.register(connection, org, id, f"/media/{id}.mp4", channel, identity or f"identity of {id}", FACTS)
    assert made is not None
    return made


def picture(connection: Connection, key: str, origin: Origin, org: str = "acme", output: str = "thumbnail") -> str:
    """The id of what a job publishes."""
    report = OutputReport.model_validate(
        {
            "name": "a", "output": output, "path": f"{key}/a.png", "width": 4, "height": 3, "format": "png",
            "bytes": 9, "device": "cpu", "files": [f"{key}/a.png"],
        }
    )  # fmt: skip
    announce(connection, key, org, key, key, FACTS, origin, [(report, None)])
    show(connection, key)
    found = connection.execute(artifacts.select().where(artifacts.c.job == key)).one()
    return str(found.id)


def ids(connection: Connection, video: str | None = None, channel: str | None = None, org: str = "acme") -> list[str]:
    found = thumbnails.latest(connection, org, video=video, channel=channel, after=None, most=100)
    return [thumbnail.id for thumbnail in found]


def test_pictures_of_a_videos_jobs_by_revision_and_by_identity(connection: Connection) -> None:
    film, other = video(connection, "film"), video(connection, "other")
    by_id = picture(connection, "1", Origin(film.identity, film.revision))
    by_path = picture(connection, "2", Origin(film.identity, None))
    picture(connection, "3", Origin(other.identity, other.revision))
    picture(connection, "4", Origin(None, None))
    picture(connection, "5", Origin(film.identity, film.revision), output="sprite")
    picture(connection, "6", Origin(film.identity, None), org="rival")
    assert ids(connection, "film") == [by_path, by_id]
    known = thumbnails.get(connection, by_path)
    assert known is not None and not known.uploaded
    assert (known.org, known.channel, known.video, known.path) == ("acme", "acme", "film", "2/a.png")


def test_another_revision_has_other_pictures_and_the_same_uploads(connection: Connection) -> None:
    film = video(connection, "film")
    before = picture(connection, "1", Origin(film.identity, film.revision))
    upload = thumbnails.create(connection, "acme", "film", "acme").id
    assert ids(connection, "film") == [upload, before]
    video(connection, "film", identity="other bytes")
    assert ids(connection, "film") == [upload]


def test_without_its_video_nothing_is_left_and_with_it_all_is_back(connection: Connection) -> None:
    video(connection, "film")
    upload = thumbnails.create(connection, "acme", "film", "acme").id
    videos.remove(connection, "acme", "film")
    assert thumbnails.get(connection, upload) is None and ids(connection, "film") == []
    video(connection, "film", org="rival")
    assert thumbnails.get(connection, upload) is None and ids(connection, "film", org="rival") == []
    videos.remove(connection, "rival", "film")
    video(connection, "film", channel="moved")
    known = thumbnails.get(connection, upload)
    assert known is not None and known.channel == "moved"


def test_what_is_not_published_or_was_removed_is_no_thumbnail(connection: Connection) -> None:
    film = video(connection, "film")
    id = picture(connection, "1", Origin(film.identity, film.revision))
    connection.execute(update(artifacts).values(published=False))
    assert ids(connection, "film") == [] and thumbnails.get(connection, id) is None
    connection.execute(update(artifacts).values(published=True))
    assert ids(connection, "film") == [id]
    known = thumbnails.get(connection, id)
    assert known is not None
    thumbnails.remove(connection, known)
    assert ids(connection, "film") == [] and thumbnails.unknown(connection, [id, "none"]) == {id, "none"}


def test_of_ids_finds_those_of_the_channel(connection: Connection) -> None:
    video(connection, "film")
    video(connection, "cartoon", channel="kids")
    mine = thumbnails.create(connection, "acme", "film", "acme").id
    kids = thumbnails.create(connection, "acme", "cartoon", "kids").id
    lone = thumbnails.create(connection, "acme", None, "kids").id
    asked = [mine, kids, lone, "none"]
    assert thumbnails.of_ids(connection, "acme", "acme", asked).keys() == {mine}
    assert thumbnails.of_ids(connection, "acme", "kids", asked).keys() == {kids, lone}
    assert thumbnails.of_ids(connection, "rival", "acme", asked) == {}
    assert ids(connection, channel="kids") == [lone, kids]
    assert thumbnails.unknown(connection, asked) == {"none"}


def test_every_page_begins_where_the_one_before_ended(connection: Connection) -> None:
    """Also between the two places of a picture of two videos."""
    film, twin = video(connection, "film", identity="same"), video(connection, "twin", identity="same")
    for number in range(4):
        picture(connection, str(number), Origin("same", (film, twin)[number % 2].revision if number < 2 else None))
    thumbnails.create(connection, "acme", None, "acme")
    whole = thumbnails.latest(connection, "acme", video=None, channel="acme", after=None, most=100)
    assert len(whole) == 7
    for before, after in pairwise(whole):
        place = Place(before.id, before.video or "")
        [found] = thumbnails.latest(connection, "acme", video=None, channel="acme", after=place, most=1)
        assert found == after


def test_an_upload_counts_once(connection: Connection) -> None:
    upload = thumbnails.create(connection, "acme", None, "acme")
    assert upload.path is None and upload.created_at > 1.6e9
    assert thumbnails.uploaded(connection, upload.id, "a.png", "aa")
    assert not thumbnails.uploaded(connection, upload.id, "b.png", "bb")
    known = thumbnails.get(connection, upload.id)
    assert known is not None and known.path == "a.png"
    assert thumbnails.sha256_of(connection, upload.id) == "aa"
    thumbnails.remove(connection, known)
    assert not thumbnails.uploaded(connection, upload.id, "c.png", "cc")


def test_a_request_that_comes_again_is_the_one_that_was(connection: Connection) -> None:
    def change(key: str, request: bytes, org: str = "acme") -> str:
        def make() -> thumbnails.Thumbnail:
            return thumbnails.create(connection, org, None, org)

        return operations.change(connection, org, "create", Repeat(key, request), make).id

    first = change("key", b"this")
    assert change("key", b"this") == first != change("other", b"this")
    assert change("key", b"this", "rival") != first
    with pytest.raises(BadRequest, match="another request"):
        change("key", b"that")
    age = operations_table.c.created_at - REMEMBERED - 1
    connection.execute(update(operations_table).where(operations_table.c.id == first).values(created_at=age))
    assert change("key", b"that") != first
    known = operations.get(connection, "acme", first)
    assert known is not None and known.thumbnail.channel == "acme"
    assert operations.get(connection, "rival", first) is None
    assert operations.forget(connection, REMEMBERED) == 1 and operations.get(connection, "acme", first) is None


def test_one_videos_thumbnails_are_found_without_reading_those_of_all_others(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("SQLite says how it will look")
    with engine.begin() as connection:
        wanted = [
            thumbnails._every(lambda of: (of.org == "acme") & (of.video == "film")),
            thumbnails._every(lambda of: (of.org == "acme") & (of.channel == "acme")),
            thumbnails._every(lambda of: (of.org == "acme") & of.id.in_(["a", "b"])),
        ]
        for each in wanted:
            statement = each.compile(engine, compile_kwargs={"literal_binds": True})
            plan = [row.detail for row in connection.execute(text(f"explain query plan {statement}"))]
            assert not [step for step in plan if step.startswith("SCAN")]
            assert not [step for step in plan if step.endswith("artifacts USING INDEX artifacts_by_identity (org=?)")]


def test_tables_of_before_get_what_they_lack(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("alter table artifacts drop column removed"))
        connection.execute(text("drop table created_thumbnails"))
    url = engine.url.render_as_string(hide_password=False)
    again = open_engine(url.replace("postgresql+psycopg", "postgresql"))
    with again.begin() as connection:
        film = video(connection, "film")
        assert ids(connection, "film") == []
        picture(connection, "1", Origin(film.identity, film.revision))
        assert len(ids(connection, "film")) == 1
    again.dispose()
