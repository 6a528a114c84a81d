"""The OpenAPI document is true, and whatever it describes keeps one organisation from another's things.

All of it is drawn from the document that a daemon serves, so that no route is forgotten. schemathesis sends what the
document allows and what it forbids, and looks at the answers; then every route is asked for what is another
organisation's, and for what is nobody's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from clips import RECIPES, make
from doors import Door, door_of, job_of
from harness import Site, thumbnail
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

pytestmark = pytest.mark.daemons

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.ignored_auth,
]
EXAMPLES = 10  # for each operation and mode
PLENTY = {f"limits__{name}": 1_000_000 for name in ("generations", "status_calls", "retrievals")}

Operation = tuple[str, str]  # method and path


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Iterator[Door]:
    clip = make(RECIPES[0], clip_folder)
    site = Site(tmp_path_factory.mktemp("document"), clip.path.parent)
    with door_of(site, **PLENTY) as door:
        with door.client("one") as one:
            one.put("/videos/film-of-one", json={"source": str(clip.path)}).raise_for_status()
            report = door.ended(one, job_of("video:film-of-one", thumbnail(1, name="p"), id="thumb_job_of_one"))
            assert report["status"] == "completed", report
        yield door


@pytest.fixture(scope="module")
def document(door: Door) -> dict[str, Any]:
    answer = httpx.get(f"{door.url}/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(document: dict[str, Any]) -> dict[Operation, dict[str, Any]]:
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


# --- the document ---------------------------------------------------------------------------------------------------


def test_the_document_is_openapi_3_1_and_names_everything_once(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(names) == len(set(names))
    text = json.dumps(document)
    assert "HTTPValidationError" not in text and "/work" not in text
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_problems_stand_in_the_document_as_they_are_told(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        responses = operation["responses"]
        for code in ("401", "403", "404", "409", "413", "429", "503"):
            if code in responses:
                assert list(responses[code]["content"]) == ["application/problem+json"], (operation, code)
        assert all("Retry-After" in responses[code]["headers"] for code in ("429", "503") if code in responses)
        assert ("401" in responses) == ("security" in operation)
        assert ("413" in responses) == ("requestBody" in operation)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_what_the_document_says_is_so(door: Door, document: dict[str, Any], mode: GenerationMode) -> None:
    load_all_checks()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=door.url)
    schema.config.generation.with_security_parameters = False  # the key is given below
    headers = {"X-Api-Key": door.key("one")}
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

        try:
            holds()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE
            continue  # whatever is sent is in order there
        except Exception as error:
            error.add_note(f"{mode.value}: {operation.label}")
            raise
        tried.append(operation.label)
    assert len(tried) > 8


# --- what is another organisation's ---------------------------------------------------------------------------------

# What a path's parameter is, of the organisation that has it; and the same of nobody, as long.
THINGS = {
    "/jobs/{id}": {"id": ("thumb_job_of_one", "thumb_job_of_non")},
    "/jobs/{id}/retry": {"id": ("thumb_job_of_one", "thumb_job_of_non")},
    "/videos/{id}": {"id": ("film-of-one", "film-of-non")},
    "/files/{path}": {"path": ("orgs/one/thumb_job_of_one/p.png", "orgs/one/thumb_job_of_one/q.png")},
    "/v1/api/{org_id}/videos/{public_id}/thumbnails": {
        "org_id": ("one", "non"),
        "public_id": ("film-of-one", "film-of-non"),
    },
    "/v1/api/{org_id}/videos/{public_id}/thumbnail": {
        "org_id": ("one", "non"),
        "public_id": ("film-of-one", "film-of-non"),
    },
    "/v1/api/thumbnails/{job_id}": {"job_id": ("thumb_job_of_one", "thumb_job_of_non")},
    "/v1/api/{org_id}/thumbnails/{job_id}": {
        "org_id": ("one", "non"),
        "job_id": ("thumb_job_of_one", "thumb_job_of_non"),
    },
    "/t/{mac}/{public_id}/thumbnails/custom/{name}.webp": {
        "mac": ("0" * 32, "0" * 32),
        "public_id": ("film-of-one", "film-of-non"),
        "name": ("1000_160x90", "1000_160x90"),
    },
    "/uploads/{id}": {"id": ("upload-of-one", "upload-of-non")},
    "/thumbnails/{id}/{width}x{height}.{suffix}": {
        "id": ("upload-of-one", "upload-of-non"),
        "width": ("320", "320"),
        "height": ("180", "180"),
        "suffix": ("jpg", "jpg"),
    },
}
OF_THE_ASKER = {"/jobs", "/videos"}  # these speak of nothing else
BODIES: dict[Operation, dict[str, Any]] = {
    ("put", "/videos/{id}"): {"source": "SOURCE"},
    ("post", "/v1/api/{org_id}/videos/{public_id}/thumbnails"): {"width": 160, "height": 90, "timestampMs": 1000},
}
# Where the answer is not the one for what is missing: an id is one in the whole daemon; HesedVid's contract says 403.
TOLD_APART = {
    ("put", "/videos/{id}"): 409,
    ("post", "/v1/api/{org_id}/videos/{public_id}/thumbnails"): 403,
    ("get", "/v1/api/{org_id}/videos/{public_id}/thumbnail"): 403,
}


def test_every_route_is_known_here(document: dict[str, Any]) -> None:
    """Whoever adds a route says above what of another organisation could be asked for there."""
    paths = set(document["paths"])
    assert paths == THINGS.keys() | OF_THE_ASKER
    for method, path in operations(document):
        assert all(f"{{{name}}}" in path for name in THINGS.get(path, {})), (method, path)


def ask(
    client: httpx.Client, operation: Operation, source: str, which: int, **instead: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the answer of one route, the ids in it all called alike."""
    method, path = operation
    values = {name: instead.get(name, pair[which]) for name, pair in THINGS.get(path, {}).items()}
    body = BODIES.get(operation)
    told = body and {name: source if value == "SOURCE" else value for name, value in body.items()}
    answer = client.request(method, path.format(**values), **({"json": told} if told else {}))
    text = answer.text
    for name, value in values.items():
        text = text.replace(value, f"<{name}>")
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, text


def test_what_is_another_organisations_looks_like_what_is_not_there(door: Door, document: dict[str, Any]) -> None:
    source = str(next(iter(Path(door.site.media[0]).glob("*.mp4"))))
    secrets = ("h264", "thumb_job_of_one/p.png", "revision", "source", "completed", "available")

    def everything() -> list[Any]:
        with door.client("one") as one:
            video, job = (one.get(path).json() for path in ("/videos/film-of-one", "/jobs/thumb_job_of_one"))
        picture = door.site.store / "orgs/one/thumb_job_of_one/p.png"
        return [video, job["status"], job["outputs"][0]["path"], picture.read_bytes()]

    before = everything()
    with door.client("two") as two, door.client(None) as nobody:
        for operation, described in operations(document).items():
            if operation[1] in OF_THE_ASKER:
                continue
            foreign = ask(two, operation, source, 0)
            if operation in TOLD_APART:
                assert foreign[0] == TOLD_APART[operation], (operation, foreign)
            else:
                missing = ask(two, operation, source, 1)
                assert foreign == missing and foreign[0] in (403, 404), (operation, foreign, missing)
            # Asked for as if it were one's own.
            own = ask(two, operation, source, 0, org_id="two")
            assert own[0] in (403, 404, TOLD_APART.get(operation)), (operation, own)
            for answer in (foreign, own):
                assert not any(secret in answer[2] for secret in secrets), (operation, answer)
            if "security" in described:
                unknown = ask(nobody, operation, source, 0)
                assert unknown == ask(nobody, operation, source, 1) and unknown[0] == 401, (operation, unknown)
    assert everything() == before


def test_lists_hold_what_is_the_askers_own(door: Door) -> None:
    with door.client("three") as three:
        assert three.get("/jobs").json() == {"jobs": [], "next_page_token": None}
        assert three.get("/videos").json() == {"videos": [], "next_page_token": None}
        with door.client("one") as one:
            token = one.get("/jobs", params={"page_size": 1}).json()["next_page_token"]
        if token:
            assert three.get("/jobs", params={"page_token": token}).json()["jobs"] == []


def test_a_job_on_another_organisations_video_fails_as_on_a_missing_one(door: Door) -> None:
    told = []
    with door.client("two") as two:
        for video in ("film-of-one", "film-of-nil"):
            report = door.ended(two, job_of(f"video:{video}", id=f"on-{video}"))
            assert report["status"] == "failed" and report["source"] is None
            told.append(json.dumps(report["error"]).replace(video, "<video>"))
    assert told[0] == told[1]


def test_a_job_writes_into_its_own_organisations_folder_alone(door: Door) -> None:
    source = str(next(iter(Path(door.site.media[0]).glob("*.mp4"))))
    picture = door.site.store / "orgs/one/thumb_job_of_one/p.png"
    before = picture.read_bytes()
    with door.client("two") as two:
        report = door.ended(two, job_of(source, thumbnail(2, name="p"), destination="thumb_job_of_one"))
        assert report["outputs"][0]["path"] == "orgs/two/thumb_job_of_one/p.png"
        for destination in ("orgs/one/thumb_job_of_one", "../one/thumb_job_of_one", "/orgs/one", "a/../../one"):
            assert two.post("/jobs", json=job_of(source, destination=destination)).status_code == 400
    assert picture.read_bytes() == before
