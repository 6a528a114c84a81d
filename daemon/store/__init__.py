"""Where pictures go.

protocol.py   what every store does
staging.py    a staging folder on this machine
folder.py     a folder on this machine: publication by renaming, expiry, sweeping
bucket.py     the same in a bucket, by server-side copies
requests.py   what is asked of a bucket, from any thread
headers.py    what a picture's first bytes say of its format and size
"""
