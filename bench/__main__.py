"""`python -m bench api|cpu|gpu|kernel|scalers [OPTIONS]`."""

import sys
from importlib import import_module

BENCHES = ("api", "cpu", "gpu", "kernel", "scalers")

if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
    sys.exit(f"usage: python -m bench {'|'.join(BENCHES)} [OPTIONS]")
# Only the one that runs: a GPU machine need not have what the others import.
import_module(f"bench.{sys.argv.pop(1)}").main()
