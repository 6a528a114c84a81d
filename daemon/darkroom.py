"""Pictures kept for the services: uploads, looked at before they are taken, and scaled versions, made when they are
first asked for.

    <the organisation's folder>/_thumbnails/<id>/<ULID>.png      what was uploaded, as it came
    <the organisation's folder>/_thumbnails/<id>/320x180.webp    a thumbnail scaled to fit a box

No job can publish there, for the parts of its destination begin with a letter or digit. What the name of a file says
it is, it is for ever: the picture of a thumbnail never changes.
"""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Literal

from daemon.errors import NotFound
from daemon.job import SUFFIX, Format, Job
from daemon.organised import folder_of
from daemon.report import SourceFacts
from daemon.probe import facts_of
from daemon.sideline import Sideline
from daemon.store.folder import Folder, Staging
from daemon.threads import in_thread
