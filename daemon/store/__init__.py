"""Where pictures go.

protocol.py   what every store does
folder.py     a folder on this machine: staging, publication by renaming, sweeping
bucket.py     the same in a bucket, by server-side copies
requests.py   what is asked of a bucket, from any thread
headers.py    what a picture's first bytes say of its format and size
"""
