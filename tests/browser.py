"""A headless Chromium, spoken to over its debugging pipe: open a page, move the mouse, look at what is seen.

The protocol is JSON, each message ended by a NUL: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import io
import json
import os
import select
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PATIENCE = 30.0  # seconds that no answer should take

_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which root may not have; nothing but the players is ever opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required",
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",  # a mouse
    "--window-size=1000,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# The boxes on the page of all elements that a selector finds, also within shadow trees.
_BOXES = """
(function find(root, selector) {
  const inside = [...root.querySelectorAll("*")].flatMap(e => e.shadowRoot ? find(e.shadowRoot, selector) : []);
  const boxes = [...root.querySelectorAll(selector)].map(e => e.getBoundingClientRect());
  return [...boxes.map(b => [b.x, b.y, b.width, b.height]), ...inside];
})(document, %s)
"""


class Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class Browser:
    """A Chromium with one page. As a context it is ended at its end."""

    def __init__(self, program: str, profile: Path) -> None:
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        # The pipe has the numbers 3 and 4 there.
        shell = ("bash", "-c", f'exec 3<&{reads} 4>&{writes}; exec "$@"', "chromium")
        self._process = subprocess.Popen(
            [*shell, program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(reads, writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._calls = 0
        self._session: str | None = None
        self._heard = b""
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._attach()
        except BaseException:
            self._end()
            raise
        return self

    def _attach(self) -> None:
        [page] = [target for target in self._call("Target.getTargets")["targetInfos"] if target["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session = None
        with suppress(OSError, AssertionError):
            self._call("Browser.close")
        self._end()

    def _end(self) -> None:
        """Waits for its end, which the end of the pipe brings about too."""
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, url: str) -> None:
        """Begins to load a page. What it complains of from now on is kept in `complaints`."""
        self._call("Page.navigate", url="about:blank")
        self.complaints.clear()
        self._call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, a promise awaited. AssertionError with what it throws."""
        said = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def boxes(self, selector: str) -> list[Box]:
        """Where elements are that have an area."""
        found = [Box(*box) for box in self.evaluate(_BOXES % json.dumps(selector))]
        return [box for box in found if box.width >= 1 and box.height >= 1]

    def point(self, x: float, y: float) -> None:
        """Moves the mouse there."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def look(self, box: Box) -> NDArray[np.uint8]:
        """What is seen there: RGB, (height, width, 3)."""
        clip = {**box._asdict(), "scale": 1}
        picture = self._call("Page.captureScreenshot", format="png", clip=clip)["data"]
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            return np.asarray(image.convert("RGB"), np.uint8)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            heard = self._hear(deadline)
            if heard.get("id") == self._calls:
                assert "error" not in heard, (method, heard["error"])
                return dict(heard["result"])
            self._note(heard)

    def _hear(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._heard:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium said nothing for {PATIENCE:g} s"
            part = os.read(self._from, 1 << 20)
            assert part, "Chromium has ended"
            self._heard += part
        message, _, self._heard = self._heard.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        said = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "assert"):
                self.complaints.append(json.dumps(said["args"]))
            case "Log.entryAdded" if said["entry"]["level"] == "error" and "//127.0.0.1" in said["entry"].get(
                "url", ""
            ):
                self.complaints.append(json.dumps(said["entry"]))
