"""`python -m bench cpu|kernel|scalers [OPTIONS]`."""

import sys

from bench import cpu, kernel, scalers

BENCHES = {"cpu": cpu.main, "kernel": kernel.main, "scalers": scalers.main}

if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
    sys.exit(f"usage: python -m bench {'|'.join(BENCHES)} [OPTIONS]")
BENCHES[sys.argv.pop(1)]()
