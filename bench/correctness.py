"""Are the pictures right? `tests/test_gpu.py` says it, and what it measured on the way."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SECONDS = 150.0


def correctness(device: str) -> dict[str, Any]:
    """`tests/test_gpu.py`, and the kernel's own tests where hypothesis is there for them."""
    if find_spec("pytest") is None:
        return {"not run": "there is no pytest"}
    files = ["tests/test_gpu.py"]
    if (ROOT / "tests" / "test_kernel.py").exists() and find_spec("hypothesis") is not None:
        files.append("tests/test_kernel.py")
    environment = {"REQUIRE_GPU": "1"} if device != "cpu" else {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-m", "pytest", "-m", "gpu", *files, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env={**os.environ, "GPU_TESTS_ON": device, **environment},
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return {"not run": f"the tests took more than {SECONDS:.0f} s"}
        if not report.exists():
            return {"not run": f"pytest ended with status {done.returncode}: {done.stdout[-500:]}"}
        return {"files": files, **told(report.read_text())}


def told(junit: str) -> dict[str, Any]:
    """What a JUnit report says."""
    cases = list(ElementTree.fromstring(junit).iter("testcase"))  # noqa: S314  pytest wrote it
    failed = {
        f"{case.get('name')}": (fault.get("message") or "").splitlines()[:1]
        for case in cases
        for fault in (*case.findall("failure"), *case.findall("error"))
    }
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    measured = {str(each.get("name")): each.get("value") or "" for case in cases for each in case.iter("property")}
    decibels = [float(value) for name, value in measured.items() if name.startswith("PSNR")]
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": failed,
        "skipped": skipped,
        "least PSNR against the CPU path, dB": min(decibels, default=None),
        "measured": measured,
    }
