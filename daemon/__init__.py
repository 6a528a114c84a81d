"""thumbd turns video into stills.

    spool ─► Job ─► job table ─► dispatch ─► worker process ─► production ─► store
             (job)   (jobs/)    (dispatch)   (worker/, media/)  (production)  (store/)

A job is accepted when its row is committed. Whoever claims it holds a fencing token; a worker process gets the open
source and the task, and hands encoded pictures back over its wire; they are checked, staged, and published
once the table says that this attempt is the one. The table is the truth, the spool an inbox and an outbox.

Imports point one way (see `[tool.importlinter]` in pyproject.toml). `build` and `app` alone put the parts together.
"""
