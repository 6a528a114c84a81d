"""The command `thumbd`. Messages go to standard error, one line, with what to do about it; results to standard output.

Exit codes: 0 done, 1 the job failed, 2 wrong use.
"""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon import log
from daemon.app import Daemon
from daemon.config import Settings, StoreSettings, cores, load
from daemon.database import open_engine
from daemon.errors import BadJob, Failure
from daemon.intake.spool import parse
from daemon.job import Job, job_schema
from daemon.jobs import table
from daemon.jobs.table import Known
from daemon.once import run_once
from daemon.report import Report
from daemon.tables import FAILED, PUBLISHING, QUEUED, RUNNING
from daemon.ulid import new_ulid

cli = typer.Typer(
    help="Turns video into stills: posters, series, scrub sprites.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
T = TypeVar("T")
errors = Console(stderr=True, highlight=False, soft_wrap=True)
UsageError: Any = typer.BadParameter.__base__  # of whichever click there is: Typer may bring its own
INTERRUPTED = 130  # as a shell says it of SIGINT


class Ask(Protocol):
    """Puts a question to the job table."""

    def __call__(self, question: Callable[[Connection], T]) -> T: ...


ConfigOption = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings.", dir_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
AtOption = Annotated[
    list[str] | None, typer.Option(help='Time of a picture: 12s, 15%, 1:02.5, "middle", "best". Repeatable.')
]
EveryOption = Annotated[str | None, typer.Option(help="A series: time between pictures.")]
CountOption = Annotated[int | None, typer.Option(help="A series: how many pictures.")]
SpriteOption = Annotated[bool, typer.Option("--sprite", help="The series as sheets of tiles and a WebVTT.")]
ClipOption = Annotated[bool, typer.Option("--clip", help="A stretch as MP4.")]
AnimationOption = Annotated[bool, typer.Option("--animation", help="A stretch as a loop: webp, gif or avif.")]
StartOption = Annotated[str | None, typer.Option(help="A series, clip or animation: from here.")]
DurationOption = Annotated[str | None, typer.Option(help="A clip or animation: how long.")]
FpsOption = Annotated[str | None, typer.Option(help="A clip or animation: frames a second.")]
PickOption = Annotated[str | None, typer.Option(help='A series: "best" takes the best keyframe of each interval.')]
EndOption = Annotated[str | None, typer.Option(help="A series: to here.")]
WidthOption = Annotated[int | None, typer.Option(help="Pixels; one side alone keeps the aspect.")]
HeightOption = Annotated[int | None, typer.Option(help="Pixels.")]
ShortSideOption = Annotated[int | None, typer.Option(help="Pixels of the smaller side.")]
FitOption = Annotated[str | None, typer.Option(help="inside, cover, pad or stretch.")]
UpscaleOption = Annotated[bool, typer.Option("--upscale", help="May be larger than the source.")]
FormatOption = Annotated[str | None, typer.Option(help="webp, jpeg, png or avif; of an animation webp, gif or avif.")]
QualityOption = Annotated[int | None, typer.Option(help="1 to 100.")]
AccuracyOption = Annotated[str | None, typer.Option(help="exact, keyframe or nearest.")]
NameOption = Annotated[str | None, typer.Option(help="Stem of the file names.")]


def main() -> None:
    """The entry point: failures become one line and an exit code."""
    try:
        try:
            code = cli(sys.argv[1:] or ["--help"], standalone_mode=False)
        finally:
            sys.stdout.flush()
    except Failure as failure:
        fail(failure.message, 2)
    except UsageError as wrong:
        fail(f"{wrong.format_message().rstrip('.')}: `thumbd --help` and `thumbd COMMAND --help` say what there is", 2)
    except BrokenPipeError:
        os._exit(0)
    if code == INTERRUPTED:
        fail("interrupted", INTERRUPTED)


def fail(message: str, code: int) -> NoReturn:
    errors.print(f"thumbd: {' '.join(message.splitlines())}", style="red" if errors.is_terminal else None, markup=False)
    sys.exit(code)


@cli.command()
def serve(config: ConfigOption = None) -> None:
    """The daemon. SIGTERM drains it, a second one ends it at once."""
    settings = load(config)
    log.set_up(settings.log.format, settings.log.level)

    async def run() -> None:
        daemon = Daemon(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, daemon.stop)
        await daemon.run()

    asyncio.run(run())


@cli.command("run")
def run_command(
    what: Annotated[str, typer.Argument(metavar="JOB.json|VIDEO", help="A job file, or a video.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.", file_okay=False)] = Path(),
    as_json: JsonOption = False,
    at: AtOption = None,
    every: EveryOption = None,
    count: CountOption = None,
    sprite: SpriteOption = False,
    clip: ClipOption = False,
    animation: AnimationOption = False,
    start: StartOption = None,
    end: EndOption = None,
    pick: PickOption = None,
    duration: DurationOption = None,
    fps: FpsOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    short_side: ShortSideOption = None,
    fit: FitOption = None,
    upscale: UpscaleOption = False,
    format: FormatOption = None,
    quality: QualityOption = None,
    accuracy: AccuracyOption = None,
    name: NameOption = None,
    config: ConfigOption = None,
) -> None:
    """One job without a daemon, with your own rights."""
    options = _options(locals())
    job = _job_file(what, options) if _is_job_file(what) else _job_of(what, options)
    destination = (job.destination or job.id or Path(what).stem) if _is_job_file(what) else ""
    settings = load(config).model_copy(
        update={"store": StoreSettings(root=out, background=load(config).store.background)}
    )
    with _progress() as progress:
        bar = progress.add_task(Path(job.source).name, total=None)
        told = lambda done, in_all: progress.update(bar, completed=done, total=in_all or None)  # noqa: E731
        report = asyncio.run(run_once(job, settings, destination, told, threads=max(2, cores())))
        if report.status == "completed":
            progress.update(bar, completed=1, total=1)
    _show_report(report, out, as_json)


@cli.command()
def submit(
    what: Annotated[list[str], typer.Argument(metavar="JOB.json…|VIDEO", help="Job files, or one video.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until the jobs are over, with progress.")] = False,
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    destination: Annotated[str | None, typer.Option(help="Folder below the store's root.")] = None,
    as_json: JsonOption = False,
    at: AtOption = None,
    every: EveryOption = None,
    count: CountOption = None,
    sprite: SpriteOption = False,
    clip: ClipOption = False,
    animation: AnimationOption = False,
    start: StartOption = None,
    end: EndOption = None,
    pick: PickOption = None,
    duration: DurationOption = None,
    fps: FpsOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    short_side: ShortSideOption = None,
    fit: FitOption = None,
    upscale: UpscaleOption = False,
    format: FormatOption = None,
    quality: QualityOption = None,
    accuracy: AccuracyOption = None,
    name: NameOption = None,
    config: ConfigOption = None,
) -> None:
    """Drops jobs into the spool of a running daemon."""
    settings = load(config)
    options = _options(locals())
    said = {key: value for key, value in {"priority": priority, "destination": destination}.items() if value}
    dropped: list[tuple[str, Job]] = []
    for each in what:
        job = _job_file(each, options) if _is_job_file(each) else _job_of(os.path.abspath(each), options)
        job = Job.check(job.model_dump(mode="json", exclude_unset=True) | {"id": job.id or new_ulid()} | said)
        dropped.append((_stem(each), job))
    for stem, job in dropped:
        _drop(settings, stem, job)
    if not wait:
        for _, job in dropped:
            print(job.id)
        return
    reports = _wait(settings, dropped)
    for report in reports:
        _show_report(report, settings.store.root, as_json, leave=False)
    if any(report.status == "failed" for report in reports):
        sys.exit(1)


@cli.command()
def status(
    id: Annotated[str | None, typer.Argument(help="A job; without it the newest ones.")] = None,
    most: Annotated[int, typer.Option(help="How many of the newest.", min=1, max=10_000)] = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What the job table knows."""
    settings = load(config)
    if id is not None:
        known = _ask(settings, lambda c: table.get(c, None, id))
        if known is None:
            fail(f"there is no job {id!r}: `thumbd status` lists the newest", 1)
        print(json.dumps(known.report.as_dict(), indent=1) if as_json else _line_of(known))
        return
    newest = _ask(settings, lambda c: table.latest(c, most))
    if as_json:
        print(json.dumps([known.report.as_dict() for known in newest], indent=1))
        return
    for known in newest:
        print(_line_of(known))
    counts = _ask(settings, table.counts)
    print("  ".join(f"{state}: {count}" for state, count in counts.items()) or "no jobs yet")


@cli.command()
def retry(id: str, config: ConfigOption = None) -> None:
    """Queues a failed job again."""
    state = _ask(load(config), lambda c: table.retry(c, None, id))
    _tell_change(id, state, FAILED, "queued again", "only failed jobs can be run again")


@cli.command()
def cancel(id: str, config: ConfigOption = None) -> None:
    """Ends a job that waits or runs."""
    state = _ask(load(config), lambda c: table.cancel(c, None, id))
    _tell_change(id, "running" if state == QUEUED else state, "running", "cancelled", "it is over already")


@cli.command()
def schema() -> None:
    """JSON Schema of a job."""
    print(json.dumps(job_schema(), indent=1))


@cli.command()
def check(config: ConfigOption = None) -> None:
    """What this machine can do, and whether the settings work."""
    from daemon.check import check_machine  # here: image libraries take half a second, and others need none

    sys.exit(0 if asyncio.run(check_machine(load(config), Console(soft_wrap=True))) else 1)


@cli.command()
def demo(
    video: Annotated[Path | None, typer.Option(help="Your own film instead of the sample.", dir_okay=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Where to; default: a new temporary folder.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of the sample film.", min=2, max=600)] = 60,
) -> None:
    """Makes a film, starts a daemon, drops a job, and shows what comes out."""
    from daemon.demo.command import run_demo  # here: as above

    sys.exit(run_demo(video, out, seconds))


# Jobs from the command line.


_WHICH = ("at", "every", "count", "sprite", "clip", "animation", "start", "end", "pick", "duration", "fps")
_LOOK = ("width", "height", "short_side", "fit", "upscale", "format", "quality", "accuracy", "name")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Those options of an output that were said, by their names in a job."""
    said = {key: given[key] for key in (*_WHICH, *_LOOK)}
    return {key: value for key, value in said.items() if value is not None and value is not False and value != []}


def _is_job_file(what: str) -> bool:
    return what.endswith(".json")


def _job_file(path: str, options: dict[str, Any]) -> Job:
    if options:
        raise BadJob(f"--{next(iter(options)).replace('_', '-')} goes with a video: a job file says it itself")
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise BadJob(f"{path}: {error.strerror}") from None
    try:
        return parse(text)
    except BadJob as bad:
        raise BadJob(f"{path}: {bad.message}") from None


def _job_of(video: str, options: dict[str, Any]) -> Job:
    """The job that the options of a command describe: thumbnails at `--at`, or a series, or a sprite; or a clip or an
    animation."""
    look = {key: value for key, value in options.items() if key in _LOOK}
    moving = next((kind for kind in ("clip", "animation") if options.get(kind)), None)
    if moving is not None:
        said = {key: value for key, value in options.items() if key != moving}
        # Not the video's own name: a clip beside it would take its place.
        return Job.check({"source": video, "outputs": [{"output": moving, "name": f"{_stem(video)}-{moving}", **said}]})
    if stray := next((key for key in ("duration", "fps") if key in options), None):
        raise BadJob(f"--{stray} goes with --clip or --animation")
    series: dict[str, Any] = {key: options[key] for key in ("every", "count", "start", "end", "pick") if key in options}
    outputs: list[dict[str, Any]] = []
    ats = options.get("at") or ([] if series else ["middle"])
    for n, at in enumerate(ats, 1):
        stem = look.get("name", _stem(video))
        outputs.append({"output": "thumbnail", **look, "at": at, "name": stem if len(ats) == 1 else f"{stem}-{n}"})
    if series:
        kind = "sprite" if options.get("sprite") else "thumbnails"
        name = f"{_stem(video)}-{kind}" if ats else _stem(video)
        outputs.append({"output": kind, "name": name, **look, **series})
    elif options.get("sprite"):
        raise BadJob("--sprite needs --every or --count")
    return Job.check({"source": video, "outputs": outputs})


def _stem(path: str) -> str:
    """A file's name without its suffix, as far as that can begin the names of other files."""
    readable = "".join(sign for sign in Path(path).stem if sign.isprintable() and sign != "\\")
    begun = re.sub(r"^[\W_]+", "", readable)
    return begun.encode()[:120].decode(errors="ignore") or "video"


def _drop(settings: Settings, stem: str, job: Job) -> None:
    folder = settings.spool.root / "in"
    if not folder.is_dir():
        raise BadJob(f"no spool at {settings.spool.root}: is the daemon of these settings running?")
    temporary = folder / f".{job.id}.tmp"
    temporary.write_text(job.model_dump_json(exclude_unset=True))
    temporary.rename(folder / f"{stem}.{job.id}.json")


# Waiting and showing.


def _wait(settings: Settings, dropped: list[tuple[str, Job]]) -> list[Report]:
    """Until every job has its report in the spool, showing how far each is."""
    reports: dict[str, Report] = {}
    names = {job.id: stem for stem, job in dropped if job.id is not None}
    with _progress() as progress, _job_table(settings) as ask:
        bars = {id: progress.add_task(f"{stem} (waiting)", total=None) for id, stem in names.items()}
        while len(reports) < len(names):
            sleep(0.1)
            for id in names.keys() - reports.keys():
                if report := _report_file(settings, f"{names[id]}.{id}.{id}.json"):
                    reports[id] = report
                    progress.update(bars[id], description=f"{names[id]} ({report.status})", completed=1, total=1)
            for known in ask(lambda c: table.latest(c, 1000, (RUNNING, PUBLISHING))) if not progress.disable else ():
                if known.id in bars:
                    about = f"{names[known.id]} ({known.report.status})"
                    total = known.pictures_in_all or None
                    progress.update(bars[known.id], description=about, completed=known.pictures_made, total=total)
    return [reports[id] for id in names]


def _report_file(settings: Settings, name: str) -> Report | None:
    for folder in ("done", "failed"):
        try:
            return Report.model_validate_json((settings.spool.root / folder / name).read_bytes())
        except FileNotFoundError:
            continue
    return None


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


def _show_report(report: Report, root: Path, as_json: bool, leave: bool = True) -> None:
    for warning in report.warnings:
        errors.print(f"thumbd: warning: {warning}", markup=False)
    if as_json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        for output in report.outputs:
            for file in output.files:
                print(root / file)
    if report.error is not None:
        message = f"{report.error.output}: {report.error.message}" if report.error.output else report.error.message
        if leave:
            fail(message, 1)
        errors.print(f"thumbd: {report.id}: {message}", markup=False)


def _ask(settings: Settings, question: Callable[[Connection], T]) -> T:
    """One question to the job table, beside a running daemon."""
    with _job_table(settings) as ask:
        return ask(question)


@contextmanager
def _job_table(settings: Settings) -> Iterator[Ask]:
    engine = open_engine(settings.database)

    def ask(question: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return question(connection)
        except DBAPIError as error:
            fail(f"the job table {engine.url.render_as_string()} cannot be reached: {error.orig}", 1)

    try:
        yield ask
    finally:
        engine.dispose()


def _tell_change(id: str, state: str | None, needed: str, done: str, otherwise: str) -> None:
    if state is None:
        fail(f"there is no job {id!r}: `thumbd status` lists the newest", 1)
    if state != needed:
        fail(f"job {id!r} is {state}: {otherwise}", 1)
    print(f"{id}: {done}")


def _line_of(known: Known) -> str:
    """One line a job, for eyes and for grep: id, org, state, source, and what is to be said."""
    said = known.report.error.message if known.report.error else ""
    if known.state == RUNNING and known.pictures_in_all:
        said = f"{known.pictures_made} of {known.pictures_in_all} pictures"
    return f"{known.id:<26}  {known.org:<10}  {known.state:<10}  {known.source}  {said}".rstrip()
