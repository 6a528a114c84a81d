"""A worker on the stand-in's card: `standin_worker.py NAME=VALUE... DESCRIPTOR PARENT DEVICE`. `BROKEN` says what of
the card is broken, `GONE` that it is not there at all; the other names are the stand-in's own."""

import os
import sys

import standin

from daemon.errors import DeviceMissing
from daemon.media.choose_device import open_device
from daemon.media.cuda import Cuda
from daemon.media.device import Hardware
from daemon.worker import process


def on_the_standin(device: str) -> Hardware:
    if "GONE" in os.environ and device != "cpu":
        raise DeviceMissing("the card is gone")
    return open_device(device) if device == "cpu" else Cuda(standin.HostCard(os.environ.get("BROKEN", "")))


while "=" in sys.argv[1]:
    name, _, value = sys.argv.pop(1).partition("=")
    os.environ[name] = value
process.open_device = on_the_standin
process.main()
