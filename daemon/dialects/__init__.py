"""The languages of other services, each one small file that translates to `Job`."""
