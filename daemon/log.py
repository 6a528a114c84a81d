"""Logs: one JSON line for each change of state on a service, readable lines on a terminal. To standard error."""

import logging
import sys

import structlog


def set_up(format: str, level: str) -> None:
    """`format`: `json`, `text`, or `auto`, which is text on a terminal."""
    plain = structlog.dev.plain_traceback  # the usual one shows what variables hold, credentials too
    as_text = sys.stderr.isatty() if format == "auto" else format == "text"
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not as_text else structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(exception_formatter=plain)
            if as_text
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    # Libraries speak up only when something is wrong.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
