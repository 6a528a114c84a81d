"""The doors over HTTP and gRPC. Each dialect translates its words to `daemon.service` and back.

app.py        the application: routes, metrics
document.py   what the OpenAPI document says of failures
problems.py   every failure as a status and application/problem+json
access.py     who asks
bodies.py     JSON bodies: bounded, strict, every wrong field named
native.py     thumbd's own API
files.py      published files: published.py out of a folder, passed_on.py out of a bucket
hesedvid.py   HesedVid's thumbnails
yandex/       Yandex Cloud Video's thumbnails, over gRPC and REST
qencode.py    Qencode's tasks; qencode_answers.py how they are asked for; qencode_status.py what became of them
tus.py        uploads, in pieces
"""
