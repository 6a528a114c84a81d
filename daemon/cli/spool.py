"""Jobs through the spool of a daemon: dropped as files, and waited for by their reports."""

from collections.abc import Sequence
from glob import escape
from itertools import count
from math import inf
from pathlib import Path
from time import monotonic, sleep

from daemon.cli.asked import Asked
from daemon.cli.beside import asking
from daemon.cli.terminal import INTERRUPTED, errors, fail, progress_bars
from daemon.config import Settings
from daemon.errors import BadJob
from daemon.intake.spool import FOLDERS, is_left_alone
from daemon.jobs import table
from daemon.report import Report
from daemon.tables import PUBLISHING, RUNNING

_PATIENCE = 3.0  # seconds
_SELDOM = 10  # turns: a folder may hold very many reports


def drop(settings: Settings, asked: Asked) -> None:
    folder = settings.spool.root / "in"
    if not folder.is_dir():
        raise BadJob(f"no spool at {settings.spool.root}: is the daemon of these settings running?")
    temporary = folder / f".{asked.id}.tmp"
    temporary.write_text(asked.job.model_dump_json(exclude_unset=True))
    temporary.rename(folder / _file_of(asked))


def _file_of(asked: Asked) -> str:
    return f"{asked.stem}.{asked.id}.json"


def lying(settings: Settings) -> Path | None:
    """A drop folder in which files lie, if there is one."""
    folders = (settings.spool.root / folder for folder in FOLDERS.values())
    return next((folder for folder in folders if any(map(_may_be_taken, folder.glob("*")))), None)


def _may_be_taken(file: Path) -> bool:
    return not is_left_alone(file.name) and file.is_file()


def refusals(settings: Settings, asked: Asked) -> list[Path]:
    """Files of this name that were taken for no jobs: their reports lie beside them."""
    return sorted((settings.spool.root / "failed").glob(f"{escape(asked.stem)}.{asked.id}.*.rejected"))


def wait_for(settings: Settings, jobs: Sequence[Asked], before: Sequence[Path]) -> list[Report]:
    """Until every job has its report in the spool, showing how far each is. `before`: refusals that were there before
    they were dropped."""
    try:
        return _wait_for(settings, jobs, before)
    except KeyboardInterrupt:
        ids = " ".join(asked.id for asked in jobs)
        fail(f"interrupted: the daemon goes on with {ids}: see `thumbd status`", INTERRUPTED)


def _wait_for(settings: Settings, jobs: Sequence[Asked], before: Sequence[Path]) -> list[Report]:
    reports: dict[str, Report] = {}
    unheard_at = monotonic() + _PATIENCE
    waiting = {asked.id: asked for asked in jobs}
    with progress_bars() as progress, asking(settings, new=True) as ask:
        bars = {id: progress.add_task(f"{each.stem} (waiting)", total=None) for id, each in waiting.items()}
        for turn in count(1):
            if len(reports) == len(waiting):
                break
            sleep(0.1)
            if monotonic() > unheard_at:
                unheard_at = inf
                _say_what_is_not_taken_in(settings, jobs)
            for id in waiting.keys() - reports.keys():
                report = _report_file(settings, _file_of(waiting[id]))
                if report is None and turn % _SELDOM == 0:
                    report = _refusal(settings, waiting[id], before)
                if report is not None:
                    reports[id] = report
                    about = f"{waiting[id].stem} ({report.status})"
                    progress.update(bars[id], description=about, completed=1, total=1)
            for known in ask(lambda c: table.latest(c, 1000, (RUNNING, PUBLISHING))) if not progress.disable else ():
                if known.id in bars:
                    about = f"{waiting[known.id].stem} ({known.status})"
                    total = known.pictures_in_all or None
                    progress.update(bars[known.id], description=about, completed=known.pictures_made, total=total)
    return [reports[id] for id in waiting]


def _say_what_is_not_taken_in(settings: Settings, jobs: Sequence[Asked]) -> None:
    folder = settings.spool.root / "in"
    if left := [asked.id for asked in jobs if (folder / _file_of(asked)).exists()]:
        errors.print(
            f"thumbd: no daemon has taken {' '.join(left)} in yet: is `thumbd serve` running with these settings, and"
            f" what does its /readyz say? Until then they wait in {folder}",
            markup=False,
        )


def _refusal(settings: Settings, asked: Asked, before: Sequence[Path]) -> Report | None:
    """Where the daemon took no such job: its report, which has an id of the daemon's own."""
    for refusal in refusals(settings, asked):
        if refusal not in before and (report := _report_file(settings, refusal.with_suffix(".json").name)):
            return report.model_copy(update={"id": asked.id})
    return None


def _report_file(settings: Settings, name: str) -> Report | None:
    for folder in ("done", "failed"):
        try:
            return Report.model_validate_json((settings.spool.root / folder / name).read_bytes())
        except FileNotFoundError:
            continue
    return None
