"""What was published before, put once more into a job's staging."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from daemon.catalogue.artifacts import Artifact
from daemon.errors import StoreFailure
from daemon.outputs import Moving, Output, Thumbnail
from daemon.report import OutputReport, SourceFacts, bare
from daemon.store.protocol import Staging
from daemon.threads import in_thread

LookUp = Callable[[Sequence[str]], Awaitable[Mapping[str, Artifact]]]


@dataclass(frozen=True)
class Reused:
    """Outputs that need not be made, by their numbers in the job, and the facts of the source that came with them."""

    outputs: Mapping[int, OutputReport] = field(default_factory=dict)
    source: SourceFacts | None = None


async def reuse(staging: Staging, outputs: Sequence[Output], recipes: Mapping[int, str], look_up: LookUp) -> Reused:
    """Puts the files of equal outputs into the staging. `recipes`: by the outputs' numbers.

    A row is gone before its files are replaced: what is known before the files are taken and after, is what they are.
    """
    found = await look_up(list(recipes.values()))
    taken: dict[int, OutputReport] = {}
    for number, recipe in recipes.items():
        if recipe in found and (report := await in_thread(_take, staging, outputs[number], found[recipe])):
            taken[number] = report
    if not taken:
        return Reused()
    still = await look_up([recipes[number] for number in taken])
    for number in list(taken):
        if still.get(recipes[number]) != found[recipes[number]]:
            await in_thread(_put_back, staging, taken.pop(number).files)
    source = next((found[recipes[number]].source for number in taken), None)
    return Reused(taken, source)


def _take(staging: Staging, output: Output, artifact: Artifact) -> OutputReport | None:
    """None where files are not there any more, or are not what they were."""
    report = bare(artifact.report, artifact.destination)
    renamed = {report.path: output.file} if isinstance(output, Thumbnail | Moving) else {}
    new = {file: renamed.get(file, file) for file in report.files}
    try:
        size = staging.adopt({name: f"{artifact.destination}/{file}" for file, name in new.items()})
    except (FileNotFoundError, StoreFailure):
        size = -1
    if size != report.bytes:
        _put_back(staging, new.values())
        return None
    return report.model_copy(
        update={
            "name": output.name,
            "tag": output.tag,
            "cached": True,
            "path": new.get(report.path, report.path),
            "files": sorted(new.values()),
        }
    )


def _put_back(staging: Staging, files: Iterable[str]) -> None:
    for file in files:
        staging.remove(file)
