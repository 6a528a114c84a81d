"""Where pictures go.

folder.py     a folder on this machine: staging, publication, sweeping
headers.py    what a picture's first bytes say of its format and size
"""
