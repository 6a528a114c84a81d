"""Sources of jobs, opened: a descriptor for the worker, a size, and an identity.

choose.py    from a job's text to an open source: `Sources.open`
files.py     files below the roots, and what is at hand by an alias
vetting.py   which URLs may be read
http.py      files of servers; s3.py  files in buckets, which are that too
remote.py    what a worker is given of them: reads that are answered
blocks.py    random reads in few requests and little memory
ranges.py    one piece, however often the network breaks
opened.py    what all of them give
"""

from daemon.sources.choose import Sources
from daemon.sources.opened import Opened

__all__ = ["Opened", "Sources"]
