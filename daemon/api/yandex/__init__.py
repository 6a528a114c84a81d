"""Yandex Cloud Video's ThumbnailService, over gRPC and REST.

thumbnails.py  what its calls mean: plain values in, plain values out
calls.py       each call as messages: what both doors below share
codes.py       every failure as a status code
grpc.py        gRPC, with health and reflection
rest.py        the same calls as JSON over HTTP
pictures.py    what the URLs that were given out lead to: uploads, and scaled pictures
proto/         the wire, and the stubs of it
"""
