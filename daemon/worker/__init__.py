"""Worker processes: the only ones that touch the bytes of a video.

wire.py      how messages cross: length-prefixed JSON and bytes, with caps, never pickle
process.py   the worker's side: descriptors in, encoded pictures out; large files through descriptors, too
handle.py    the supervisor's side: start, run a task, watch, kill
reads.py     how a source that is no file is read over a socket
answers.py   the supervisor's side of that
"""
