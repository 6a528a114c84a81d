"""The catalogue on real databases: who may ask, what is known by name, what was published, and what is allowed."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import Connection, Engine, select, update

from daemon.catalogue import artifacts, organisations, quotas, signing, videos
from daemon.catalogue.artifacts import Artifact, Origin, recipe
from daemon.catalogue.signing import Signer
from daemon.catalogue.videos import Place, Video
from daemon.database import open_engine
from daemon.errors import QuotaExceeded, SourceMissing
from daemon.job import Job
from daemon.outputs import Output
from daemon.report import OutputReport, PictureReport, SourceFacts
from daemon.tables import api_keys, orgs, signing_keys
from daemon.tables import quotas as allowances

P = ParamSpec("P")
T = TypeVar("T")

HOUR = 3600.0
FACTS = SourceFacts(duration=12.5, width=1920, height=1080, codec="h264", fps=25.0)
BLACK = (0, 0, 0)
PLAIN = Origin("1:2:3:4")


class Catalogue:
    """Its verbs on one engine, each in a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, verb: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self.engine.begin() as connection:
            return verb(connection, *args, **kwargs)

    def add(self, name: str, *roots: Path, max_running: int | None = 5) -> str:
        key = self(organisations.add, name, roots, max_running)
        assert key is not None
        return key

    def owner(self, key: str) -> str | None:
        found = self(organisations.of_key, key)
        return found and found.name

    def register(
        self, org: str, id: str, source: str = "/film.mp4", channel: str | None = None, identity: str | None = "1:2:3:4"
    ) -> Video | None:
        return self(videos.register, org, id, source, channel, identity, FACTS)

    def registered(self, org: str, id: str, *more: Any, **named: Any) -> Video:
        made = self.register(org, id, *more, **named)
        assert made is not None
        return made

    def publish(
        self,
        key: str,
        *outputs: OutputReport,
        org: str = "one",
        origin: Origin = PLAIN,
        by: str | None = None,
        shown: bool = True,
    ) -> None:
        """Outputs of a job of the id `job-<key>`, all of them made by the recipe `by`."""
        destination = outputs[0].path.rpartition("/")[0]
        made = [(output, by) for output in outputs]
        self(artifacts.announce, key, org, f"job-{key}", destination, FACTS, origin, made)
        if shown:
            self(artifacts.show, key)

    def of(self, key: str, org: str = "one") -> list[str]:
        """The paths of what the job with this key has published."""
        return [made.report.path for made in self(artifacts.of_job, org, f"job-{key}")]


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    engine = open_engine(database_url)
    yield Catalogue(engine)
    engine.dispose()


def thumbnail(path: str, width: int = 320, height: int = 180) -> OutputReport:
    stem = Path(path).stem
    return OutputReport(
        name=stem, output="thumbnail", path=path, width=width, height=height, format="webp", bytes=5, device="cpu",
        files=[path],
    )  # fmt: skip


def series(folder: str, name: str, count: int) -> OutputReport:
    pictures = [f"{folder}/{name}-{n:04}.webp" for n in range(1, count + 1)]
    return thumbnail(f"{folder}/{name}.vtt").model_copy(
        update={
            "output": "thumbnails",
            "files": [*pictures, f"{folder}/{name}.vtt"],
            "pictures": [PictureReport(at=n, time=n, path=path) for n, path in enumerate(pictures)],
        }
    )


# --- organisations and their keys -----------------------------------------------------------------------------------


def test_a_key_is_long_random_and_kept_as_its_hash_alone(catalogue: Catalogue) -> None:
    keys = [catalogue.add("one"), catalogue.add("two")]
    assert keys[0] != keys[1]
    assert all(key.startswith("thumbd_") and len(key) == len("thumbd_") + 43 for key in keys)
    with catalogue.engine.connect() as connection:
        stored = {row.hash: row.org for row in connection.execute(select(api_keys))}
        everything = repr([*connection.execute(select(api_keys)), *connection.execute(select(orgs))])
    assert stored == {
        hashlib.sha256(key.encode()).hexdigest(): org for key, org in zip(keys, ("one", "two"), strict=True)
    }
    assert not any(key.removeprefix("thumbd_") in everything for key in keys)


def test_a_key_opens_its_organisation_and_nothing_else_does(catalogue: Catalogue) -> None:
    one, two = catalogue.add("one"), catalogue.add("two")
    assert (catalogue.owner(one), catalogue.owner(two)) == ("one", "two")
    hashed = hashlib.sha256(one.encode()).hexdigest()
    for wrong in ("", "x", one[:-1], one + "x", one.lower(), one.upper(), hashed, f" {one}", one + "\0", "\ud800", "é"):
        assert catalogue.owner(wrong) is None, wrong


def test_a_name_that_is_taken_is_refused_and_its_key_stays(catalogue: Catalogue) -> None:
    key = catalogue.add("one")
    assert catalogue(organisations.add, "one", [], None) is None
    assert catalogue.owner(key) == "one"


def test_a_rotated_key_is_good_for_the_overlap_and_the_new_one_for_ever(catalogue: Catalogue) -> None:
    first = catalogue.add("one")
    other = catalogue.add("two")
    second = catalogue(organisations.rotate, "one", HOUR)
    assert second is not None
    assert catalogue.owner(first) == catalogue.owner(second) == "one"
    third = catalogue(organisations.rotate, "one", 0.0)
    assert third is not None
    assert [catalogue.owner(key) for key in (first, second, third)] == [None, None, "one"]
    assert catalogue.owner(other) == "two"
    assert catalogue(organisations.rotate, "nobody", HOUR) is None


def test_a_rotation_never_lengthens_the_life_of_an_older_key(catalogue: Catalogue) -> None:
    first = catalogue.add("one")
    catalogue(organisations.rotate, "one", -1.0)
    catalogue(organisations.rotate, "one", HOUR)
    assert catalogue.owner(first) is None


def test_expired_keys_are_not_counted(catalogue: Catalogue) -> None:
    catalogue.add("one")
    catalogue(organisations.rotate, "one", HOUR)
    assert [(org.name, org.keys) for org in catalogue(organisations.all_of_them)] == [("one", 2)]
    catalogue(organisations.rotate, "one", 0.0)
    assert [(org.name, org.keys) for org in catalogue(organisations.all_of_them)] == [("one", 1)]


def test_a_removed_organisation_has_no_keys_also_when_it_is_added_again(catalogue: Catalogue) -> None:
    key = catalogue.add("one")
    catalogue.registered("one", "film")
    assert catalogue(organisations.remove, "one") and not catalogue(organisations.remove, "one")
    assert catalogue.owner(key) is None and catalogue(organisations.get, "one") is None
    again = catalogue.add("one")
    assert catalogue.owner(key) is None and catalogue.owner(again) == "one"
    assert [video.id for video in catalogue(videos.list_of, "one")] == ["film"]


def test_an_organisation_is_what_it_was_made_as(catalogue: Catalogue) -> None:
    catalogue.add("one", Path("/media/a"), Path("/media/b"), max_running=None)
    catalogue.add("two", max_running=3)
    one, two = catalogue(organisations.get, "one"), catalogue(organisations.get, "two")
    assert one is not None and two is not None
    assert (one.roots, one.max_running) == ((Path("/media/a"), Path("/media/b")), None)
    assert (two.roots, two.max_running) == (None, 3)
    assert len(bytes.fromhex(one.webhook_secret)) == 32 and one.webhook_secret != two.webhook_secret
    assert catalogue(organisations.caps) == {"two": 3}


# --- videos ---------------------------------------------------------------------------------------------------------


def test_the_revision_changes_only_with_the_identity_or_the_place_of_the_source(catalogue: Catalogue) -> None:
    first = catalogue.registered("one", "film")
    assert (first.org, first.channel, first.facts) == ("one", "one", FACTS)
    assert catalogue.registered("one", "film") == first
    assert catalogue.registered("one", "film", channel="sport").revision == first.revision
    other_bytes = catalogue.registered("one", "film", identity="1:2:3:5")
    other_place = catalogue.registered("one", "film", "/elsewhere.mp4", identity="1:2:3:5")
    assert len({first.revision, other_bytes.revision, other_place.revision}) == 3
    assert other_place.created_at == first.created_at


def test_a_source_that_has_no_identity_may_be_another_one_every_time(catalogue: Catalogue) -> None:
    revisions = {catalogue.registered("one", "film", identity=None).revision for _ in range(3)}
    assert len(revisions) == 3


def test_a_channel_stays_until_another_is_named(catalogue: Catalogue) -> None:
    assert catalogue.registered("one", "film", channel="sport").channel == "sport"
    assert catalogue.registered("one", "film").channel == "sport"
    assert catalogue.registered("one", "film", channel="news").channel == "news"


def test_ids_and_channels_of_another_organisation_are_refused_and_change_nothing(catalogue: Catalogue) -> None:
    for org in ("one", "two"):
        catalogue.add(org)
    film = catalogue.registered("one", "film", channel="sport")
    assert catalogue.register("two", "film", "/other.mp4") is None
    assert catalogue.register("two", "mine", channel="sport") is None
    assert catalogue.register("two", "mine", channel="one") is None  # named like an organisation
    assert catalogue.register("two", "mine", channel="default") is None
    assert catalogue(videos.get, "film") == film and catalogue(videos.get, "mine") is None
    assert catalogue.registered("two", "mine").channel == "two"


def test_a_channel_is_anybodys_once_its_last_video_is_gone(catalogue: Catalogue) -> None:
    catalogue.registered("one", "film", channel="sport")
    assert catalogue(videos.channel_owner, "sport") == "one"
    assert catalogue(videos.remove, "one", "film")
    assert catalogue(videos.channel_owner, "sport") is None
    assert catalogue.registered("two", "film", channel="sport").org == "two"


def test_a_video_is_removed_by_its_organisation_alone(catalogue: Catalogue) -> None:
    catalogue.registered("one", "film")
    assert not catalogue(videos.remove, "two", "film") and not catalogue(videos.remove, "one", "other")
    assert catalogue(videos.get, "film") is not None
    assert catalogue(videos.remove, "one", "film") and catalogue(videos.get, "film") is None
    catalogue.registered("one", "film")
    assert catalogue(videos.remove, None, "film"), "the command line names no organisation"


def test_videos_are_listed_page_by_page(catalogue: Catalogue) -> None:
    for org, id in (("one", "a"), ("two", "b"), ("one", "c"), ("one", "d")):
        catalogue.registered(org, id)

    def page(org: str | None, after: str = "", most: int = 100) -> list[str]:
        return [video.id for video in catalogue(videos.list_of, org, after, most)]

    assert page("one") == ["a", "c", "d"] and page(None) == ["a", "b", "c", "d"]
    assert page("one", most=2) == ["a", "c"] and page("one", "c") == ["d"] and page("one", "d") == []


def test_a_job_finds_its_own_organisations_video_only(catalogue: Catalogue) -> None:
    catalogue.add("one", Path("/media"))
    film = catalogue.registered("one", "film")
    roots = (Path("/media"),)
    assert catalogue(videos.place_of, "one", "video:film") == Place("/film.mp4", roots, film.revision)
    assert catalogue(videos.place_of, "one", "/film.mp4") == Place("/film.mp4", roots, None)
    assert catalogue(videos.place_of, "two", "/film.mp4") == Place("/film.mp4", None, None)
    with pytest.raises(SourceMissing) as foreign:
        catalogue(videos.place_of, "two", "video:film")
    catalogue(videos.remove, None, "film")
    with pytest.raises(SourceMissing) as missing:
        catalogue(videos.place_of, "two", "video:film")
    assert foreign.value.message == missing.value.message


# --- artifacts ------------------------------------------------------------------------------------------------------


def test_what_is_announced_is_seen_once_it_is_shown_and_never_when_it_is_withdrawn(catalogue: Catalogue) -> None:
    catalogue.publish("A", thumbnail("a/1.webp"), thumbnail("a/2.webp"), by="recipe", shown=False)
    assert catalogue.of("A") == [] and catalogue(artifacts.equals, "one", ["recipe"]) == {}
    catalogue(artifacts.show, "A")
    assert catalogue.of("A") == ["a/1.webp", "a/2.webp"]
    catalogue(artifacts.withdraw, "A")
    assert catalogue.of("A") == [] and catalogue(artifacts.equals, "one", ["recipe"]) == {}


def test_an_artifact_says_all_that_was_reported(catalogue: Catalogue) -> None:
    catalogue.publish("A", made := series("a", "s", 3), by="recipe")
    [found] = catalogue(artifacts.of_job, "one", "job-A")
    assert found == Artifact(found.id, "one", "job-A", "a", made, FACTS, None, found.created_at)
    assert catalogue(artifacts.equals, "one", ["recipe", "other"]) == {"recipe": found}


def test_announcing_again_replaces_what_the_same_job_announced_before(catalogue: Catalogue) -> None:
    catalogue.publish("A", thumbnail("a/1.webp"))
    catalogue.publish("A", thumbnail("a/2.webp"))
    assert catalogue.of("A") == ["a/2.webp"]


def test_of_equals_the_newest_of_the_same_organisation_is_found(catalogue: Catalogue) -> None:
    catalogue.publish("A", thumbnail("a/1.webp"), by="recipe")
    catalogue.publish("B", thumbnail("b/1.webp"), by="recipe")
    catalogue.publish("C", thumbnail("orgs/two/c/1.webp"), by="recipe", org="two")
    catalogue.publish("D", thumbnail("d/1.webp"), by="recipe", shown=False)
    assert catalogue(artifacts.equals, "one", ["recipe"])["recipe"].job_id == "job-B"
    assert catalogue(artifacts.equals, "two", ["recipe"])["recipe"].job_id == "job-C"
    assert catalogue(artifacts.equals, "three", ["recipe"]) == {} == catalogue(artifacts.equals, "one", [])
    assert catalogue(artifacts.of_job, "two", "job-B") == []


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        (thumbnail("a/1.webp"), thumbnail("a/1.webp"), False),
        (thumbnail("a/1.webp"), thumbnail("a/2.webp"), True),
        (thumbnail("a/1.webp"), thumbnail("b/1.webp"), True),
        (series("a", "s", 3), series("a", "s", 3), False),
        (series("a", "s", 3), thumbnail("a/s-0002.webp"), False),
        (series("a", "s", 3), thumbnail("a/s.vtt"), False),
        (series("a", "s", 3), thumbnail("a/s-0004.webp"), True),
        (thumbnail("a/s-0002.webp"), series("a", "s", 3), False),
        (thumbnail("a/s-0004.webp"), series("a", "s", 3), True),
        (thumbnail("a/b/s-0002.webp"), series("a/b", "s", 3), False),
        (thumbnail("a/s-0002.webp"), series("a/b", "s", 3), True),
    ],
    ids=lambda value: value.path if isinstance(value, OutputReport) else str(value),
)
def test_whose_files_are_replaced_loses_its_row(
    catalogue: Catalogue, before: OutputReport, after: OutputReport, stays: bool
) -> None:
    catalogue.publish("A", before, by="recipe")
    catalogue.publish("B", after, shown=False)
    assert catalogue.of("A") == ([before.path] if stays else [])
    assert ("recipe" in catalogue(artifacts.equals, "one", ["recipe"])) == stays


def test_a_file_within_the_destination_of_another_job_is_replaced_too(catalogue: Catalogue) -> None:
    """`files` of a series may have folders of their own."""
    deep = series("a", "s", 2).model_copy(update={"files": ["a/x/1.webp", "a/x/2.webp", "a/s.vtt"]})
    catalogue.publish("A", deep)
    catalogue.publish("B", thumbnail("a/x/2.webp"))
    assert catalogue.of("A") == []
    catalogue.publish("C", deep)
    assert catalogue.of("B") == [] and catalogue.of("C") == ["a/s.vtt"]


def test_a_series_of_twenty_thousand_pictures_replaces_as_many_files(catalogue: Catalogue) -> None:
    catalogue.publish("A", thumbnail("a/s-20000.webp"))
    many = [f"a/s-{n}.webp" for n in range(1, 20_001)]
    catalogue.publish("B", series("a", "s", 0).model_copy(update={"files": many}))
    assert catalogue.of("A") == []


def test_the_largest_thumbnail_of_a_video_is_a_thumbnail_of_this_revision(catalogue: Catalogue) -> None:
    film = catalogue.registered("one", "film")
    of_video, of_path = Origin("1:2:3:4", film.revision), Origin("1:2:3:4")
    assert catalogue(artifacts.largest_thumbnail, film) is None
    catalogue.publish("A", thumbnail("a/1.webp", 320, 180), origin=of_video)
    catalogue.publish("B", thumbnail("b/1.webp", 180, 320), origin=of_path)  # as many pixels, and newer
    catalogue.publish("C", series("c", "s", 2).model_copy(update={"width": 4000, "height": 4000}), origin=of_video)
    catalogue.publish("D", thumbnail("d/1.webp", 4000, 4000), origin=of_video, shown=False)
    catalogue.publish("E", thumbnail("e/1.webp", 4000, 4000), origin=Origin("1:2:3:5"))
    catalogue.publish("F", thumbnail("f/1.webp", 4000, 4000), origin=Origin("1:2:3:4", "another revision"))
    catalogue.publish("G", thumbnail("orgs/two/g/1.webp", 4000, 4000), origin=of_path, org="two")

    def largest(video: Video) -> str | None:
        found = catalogue(artifacts.largest_thumbnail, video)
        return found and found.job_id

    assert largest(film) == "job-B"
    catalogue.publish("H", thumbnail("h/1.webp", 640, 360), origin=of_video)
    assert largest(film) == "job-H"
    changed = catalogue.registered("one", "film", identity="9:9:9:9")
    assert largest(changed) is None


# --- recipes --------------------------------------------------------------------------------------------------------


def output(**keys: Any) -> Output:
    return Job.check({"source": "x", "outputs": [{"output": "thumbnail", "at": 1, **keys}]}).outputs[0]


def test_a_recipe_is_the_same_for_what_gives_the_same_file() -> None:
    origin = Origin("1:2:3:4", "r")
    plain = recipe(origin, output(), "cpu", BLACK)
    assert plain is not None
    for same in (output(name="x"), output(tag="t"), output(optional=True), output(at="1s"), output(format="webp")):
        assert recipe(origin, same, "cpu", BLACK) == plain, same
    assert recipe(origin, output(), "cuda:0", BLACK) == recipe(origin, output(), "cuda:1", BLACK)


def test_a_recipe_differs_wherever_the_file_may() -> None:
    origin = Origin("1:2:3:4", "r")
    others = [
        recipe(origin, output(), "cpu", BLACK),
        recipe(origin, output(), "cuda:0", BLACK),
        recipe(origin, output(), "cpu", (0, 0, 1)),
        recipe(Origin("1:2:3:5", "r"), output(), "cpu", BLACK),
        recipe(Origin("1:2:3:4", None), output(), "cpu", BLACK),
        *(
            recipe(origin, output(**keys), "cpu", BLACK)
            for keys in (
                {"at": 2}, {"at": "1%"}, {"at": {"frame": 1}}, {"at": "best"}, {"width": 320}, {"height": 320},
                {"width": 320, "height": 320}, {"width": 320, "height": 320, "fit": "cover"},
                {"width": 320, "height": 320, "fit": "pad"}, {"width": 320, "upscale": True}, {"short_side": 320},
                {"format": "png"}, {"format": "jpeg"}, {"format": "jpeg", "quality": 5}, {"accuracy": "keyframe"},
                {"accuracy": "nearest"},
            )
        ),
    ]  # fmt: skip
    assert None not in others and len(set(others)) == len(others)


def test_a_source_without_an_identity_has_no_recipe() -> None:
    assert recipe(Origin(None, "r"), output(), "cpu", BLACK) is None


# --- quotas ---------------------------------------------------------------------------------------------------------


def spend(catalogue: Catalogue, allowed: int, org: str = "one", name: str = "generations") -> int | None:
    """None, or after how many seconds there is more."""
    try:
        catalogue(quotas.spend, org, name, allowed)
    except QuotaExceeded as exceeded:
        return exceeded.retry_after
    return None


def test_an_allowance_is_used_once_and_tells_when_there_is_more(catalogue: Catalogue) -> None:
    assert [spend(catalogue, 3) for _ in range(3)] == [None] * 3
    left = spend(catalogue, 3)
    assert left is not None and HOUR - 60 < left <= HOUR
    assert spend(catalogue, 3, org="two") is None and spend(catalogue, 3, name="retrievals") is None
    assert spend(catalogue, 4) is None, "what was refused is not counted"
    assert spend(catalogue, 0) == HOUR and spend(catalogue, 0, org="new") == HOUR


def test_a_refusal_names_what_is_used_up(catalogue: Catalogue) -> None:
    with pytest.raises(QuotaExceeded, match="0 generations in 60 minutes are allowed"):
        catalogue(quotas.spend, "one", "generations", 0)


def test_a_window_begins_anew_when_it_is_over_and_not_before(catalogue: Catalogue) -> None:
    def ago(seconds: float) -> None:
        with catalogue.engine.begin() as connection:
            connection.execute(update(allowances).values(begun_at=allowances.c.begun_at - seconds))

    assert [spend(catalogue, 2) for _ in range(2)] == [None] * 2
    ago(HOUR - 30)
    left = spend(catalogue, 2)
    assert left is not None and 0 < left <= 30
    ago(31)
    assert [spend(catalogue, 2) for _ in range(2)] == [None] * 2
    left = spend(catalogue, 2)
    assert left is not None and left > HOUR - 60, "the new window begins with its first use"


def test_an_allowance_is_exact_whoever_spends_at_the_same_moment(catalogue: Catalogue) -> None:
    together = threading.Barrier(8)

    def client(number: int) -> list[int | None]:
        together.wait()
        return [spend(catalogue, 50) for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for answers in pool.map(client, range(8)) for answer in answers]
    assert answers.count(None) == 50 and len(answers) == 200
    assert all(left is None or 0 < left <= HOUR for left in answers)


# --- signatures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer({"k1": b"one" * 11, "k2": b"two" * 11}, "k2")


def query_of(signer: Signer, path: str = "/files/a/1.webp", expires: int = 1000) -> dict[str, str]:
    return dict(part.split("=") for part in signer.sign("GET", path, expires).split("&"))


def is_good(
    signer: Signer, query: dict[str, str], method: str = "GET", path: str = "/files/a/1.webp", at: float = 0
) -> bool:
    return signer.is_signed(method, path, query["expires"], query["key"], query["signature"], at)


def test_a_signature_is_good_until_it_expires(signer: Signer) -> None:
    query = query_of(signer)
    assert query["key"] == "k2" and len(query["signature"]) == 32
    assert is_good(signer, query) and is_good(signer, query, at=1000.0)
    assert not is_good(signer, query, at=1000.1)


@pytest.mark.parametrize(
    "altered",
    [
        {"path": "/files/a/2.webp"}, {"path": "/files/a/1.webp/"}, {"path": "/files//a/1.webp"}, {"path": ""},
        {"path": "/files/a/1.web"}, {"method": "PUT"}, {"method": "get"}, {"method": ""},
        {"path": "/files/a/../a/1.webp"}, {"path": "/files/a/%31.webp"}, {"path": "\ud800"}, {"method": "\udfff"},
    ],
)  # fmt: skip
def test_a_signature_is_good_for_one_method_and_path(signer: Signer, altered: dict[str, str]) -> None:
    assert not is_good(signer, query_of(signer), **altered)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "altered",
    [
        {"expires": said}
        for said in ("1001", "", "-1", "+1000", "1e3", " 1000", "1000 ", "01000", "١٠٠٠", "1_0", "9" * 13, "\0")
    ]
    + [{"key": said} for said in ("k1", "", "k3", "K2", "\0", "\ud800", "k" * 100_000)]
    + [{"signature": said} for said in ("", "0" * 32, "é" * 32, "\ud800" * 32, "\0", "f" * 100_000)],
    ids=ascii,
)  # fmt: skip
def test_an_altered_query_is_worth_nothing(signer: Signer, altered: dict[str, str]) -> None:
    assert not is_good(signer, {**query_of(signer), **altered})


def test_a_signature_is_good_as_it_is_alone(signer: Signer) -> None:
    query = query_of(signer)
    good = query["signature"]
    flipped = [good[:n] + ("0" if good[n] != "0" else "1") + good[n + 1 :] for n in range(len(good))]
    for wrong in (good[:-1], good[1:], good + "0", good + good, " " + good, *flipped):
        assert is_good(signer, {**query, "signature": wrong}) == (wrong == good), wrong


def test_no_two_lists_of_parts_have_the_same_mac(signer: Signer) -> None:
    lists = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("a", "b", "c"), (), ("",), ("", "")]
    lists += [
        ("a\0b",),
        ("a", "\0b"),
        ("\0\0\0\1a",),
        ("\0\0\0\1", "a"),
        ("é",),
        ("e\u0301",),
        ("\ud800",),
        ("\udc00",),
        ("?",),
    ]
    assert len({signer.mac(*parts) for parts in lists}) == len(lists)
    assert signer.is_mac(signer.mac("ab", "c"), "ab", "c")
    for wrong in ("", "0" * 32, signer.mac("a", "bc"), signer.mac("ab", "c")[:-1], "é", "\ud800"):
        assert not signer.is_mac(wrong, "ab", "c")


def test_old_keys_stay_good_and_the_newest_signs(catalogue: Catalogue) -> None:
    first = catalogue(signing.signer)
    assert catalogue(signing.signer) == first, "every daemon of a table has the same keys"
    old, mac = query_of(first), first.mac("one", "film")
    catalogue(signing.rotate)
    second = catalogue(signing.signer)
    assert second.newest != first.newest and set(first.keys) < set(second.keys)
    assert query_of(second)["key"] == second.newest
    assert is_good(second, old) and second.is_mac(mac, "one", "film") and second.mac("one", "film") != mac
    assert not is_good(first, query_of(second)), "a key that nobody has told it"
    with catalogue.engine.connect() as connection:
        assert all(len(bytes.fromhex(row.secret)) == 32 for row in connection.execute(select(signing_keys)))


def test_secrets_are_in_no_text(signer: Signer, catalogue: Catalogue) -> None:
    assert "oneone" not in repr(signer) and "twotwo" not in str(signer)
    catalogue.add("one")
    organisation = catalogue(organisations.get, "one")
    assert organisation is not None and organisation.webhook_secret not in repr(organisation)
