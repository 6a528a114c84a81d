"""What is owed for a job once it is accepted, or over, and how it is paid (the rows are `daemon.jobs.errands`).

    promise.py     from a checked job to its errands: the only place that sees credentials before they are sealed
    secrets.py     sealing of what must lie in the table unread
    runner.py      claim, pay, finish; again after a while where it did not work
    webhook.py     callbacks: signed, worded by the dialect that asked for them
    delivery.py    published files to buckets
    azure.py       objects in Azure's containers
    expiry.py      files whose time is over

Whatever is paid is paid at least once: a daemon may die between the deed and its commit.
"""
