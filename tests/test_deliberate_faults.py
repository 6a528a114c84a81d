"""The suite notices faults: each one of `deliberate.py` is made, and the part of the suite that should fail must.

`pytest -m faults` runs them (some minutes); without a fault the same parts pass, as the suite itself shows.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import standin
from deliberate import ENVIRONMENT, FAULTS, NVDEC, Fault

TESTS = Path(__file__).parent


@pytest.mark.faults
@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_fault_is_noticed(fault: Fault) -> None:
    if fault.noticed_by == NVDEC and (reason := standin.missing()):
        pytest.skip(reason)
    which = ["-m", "not slow and not gpu", fault.noticed_by]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "deliberate", "-p", "no:cacheprovider", *which]
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, ENVIRONMENT: fault.name, "PYTHONPATH": paths}
    ran = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "1 failed" in ran.stdout
