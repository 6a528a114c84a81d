"""Who may ask, and what is known by name. Verbs on the tables `daemon.tables` has, as `daemon.jobs.table` is for jobs.

organisations.py   organisations and their API keys
videos.py          videos under the ids that the services use
qencode.py         tokens and tasks of Qencode's API
uploads.py         what clients upload
artifacts.py       what jobs have published: the cache, and the thumbnails of a video
thumbnails.py      the thumbnails of a video or channel: pictures that jobs made, and uploads
operations.py      what was changed, for those who ask later, or twice
quotas.py          how much of an hour's allowance is used
signing.py         URLs that only the daemon can make
"""
