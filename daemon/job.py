"""The job: what may be asked of thumbd, and the one place where it is read and checked.

A `Job` is frozen, knows nothing of files or queues, and is the same from whichever side it came (spool, command line,
a service's dialect). Unknown keys are refused by name; every complaint says where it is and what was found there.
"""

from itertools import combinations
from typing import Annotated, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic import JsonValue as Json
from pydantic_core import from_json

from daemon.complaints import explain
from daemon.errors import BadJob
from daemon.fields import NAME, CallbackUrl, Destination, Flag, Lifetime, Model, Priority, Targets
from daemon.files import MANIFEST, Files, files_of
from daemon.outputs import Output

MAX_JOB_BYTES = 1 << 20
MAX_OUTPUTS = 64


class Job(Model):
    """One JSON object: a source and the pictures wanted from it. `ttl`: of the outputs that have none of their own;
    `deliver`: where all files go."""

    id: Annotated[str, Field(pattern=NAME)] | None = None
    org: Annotated[str, Field(pattern=NAME)] = "default"
    source: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
    destination: Destination | None = None
    priority: Priority | None = None
    outputs: Annotated[tuple[Output, ...], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_OUTPUTS})]
    cache: Flag = False
    payload: Annotated[str, Field(max_length=1000)] | None = None
    callback_url: CallbackUrl | None = None
    ttl: Lifetime | None = None
    deliver: Targets = ()

    @field_validator("outputs", mode="before")
    @classmethod
    def _not_too_many(cls, said: object) -> object:
        """Before they are read: in 1 MiB there may be a hundred thousand."""
        if isinstance(said, list | tuple) and not 1 <= len(said) <= MAX_OUTPUTS:
            raise ValueError(f"must hold 1 to {MAX_OUTPUTS} outputs, not {len(said)}")
        return said

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.org == "default" and (self.destination or "").split("/")[0] == "orgs":
            raise ValueError('destination may not lie below "orgs": that is where other organisations are')
        named = tuple(
            output if output.name else output.model_copy(update={"name": f"{output.output}-{n}"})
            for n, output in enumerate(self.outputs, 1)
        )
        object.__setattr__(self, "outputs", named)
        writers = [
            ("the manifest", (Files(MANIFEST, "", "json"),)),
            *((f"output {o.name!r}", files_of(o)) for o in named),
        ]
        for (who, files), (other, others) in combinations(writers, 2):
            if any(one.meets(another) for one in files for another in others):
                raise ValueError(f"{who} and {other} would write the same file: give them different names")
        return self

    @classmethod
    def read(cls, text: str | bytes) -> "Job":
        """Reads a job's JSON. Raises `BadJob` naming each wrong key, its place and what is wrong there."""
        if len(text.encode() if isinstance(text, str) else text) > MAX_JOB_BYTES:
            raise BadJob("a job is one JSON object of at most 1 MiB")
        try:
            said = from_json(text, allow_inf_nan=False)
        except ValueError as error:
            raise BadJob(f"job: not JSON: {error}") from None
        return cls.check(said)

    @classmethod
    def check(cls, said: object) -> "Job":
        """Checks a job that is parsed already. Raises `BadJob` as `read` does."""
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            raise BadJob(explain(error)) from None


def job_schema() -> dict[str, Json]:
    """The JSON Schema of a job (2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Job.model_json_schema()}
