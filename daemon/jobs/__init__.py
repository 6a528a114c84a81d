"""The job table (`daemon.tables.jobs`): the truth about every job.

    table.py       the verbs of those who bring jobs and ask for them: add, get, cancel, retry …
    lease.py       the verbs of those who run jobs: claim, start, publishing, complete, fail, put back …
    row.py         a row, as both see it
    errands.py     the verbs of what jobs owe besides: callbacks, deliveries, expiries
    fairness.py    pure: whose job is next
    retry.py       pure: what becomes of a job that failed

                     ┌──────── put back (retry, drain, lost owner) ────────┐
                     ▼                                                     │
    add ─────────► queued ── claim ──► running ── publishing ──► publishing ── complete ──► completed
                     │                   │                          (rolled forward by whoever finds it)
                     └──── cancel ───────┴── fail ──► failed ── retry (by hand) ──► queued

Every change of a running job is conditional on its fencing token, which rises with each claim: a paused owner that
wakes up changes 0 rows. Times are the database's own clock, in seconds since 1970.
"""
