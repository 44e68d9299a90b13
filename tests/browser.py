"""A headless Chromium for tests, controlled by its DevTools protocol over a pipe: no driver, no port, no library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync"),
    *("--hide-scrollbars", "--force-color-profile=srgb"),
)

# The brightness, 0 to 1, of a computed colour; it is drawn because colours have many notations.
BRIGHT = """
(colour => { const pen = document.createElement("canvas").getContext("2d"); pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1); const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; })
"""


def find() -> str | None:
    """Return the browser that ``CHROME`` names, or the first one on the path."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROME") or "", *NAMES))), None)


class Browser:
    """One page. ``messages`` collects console messages and uncaught errors, ``fetched`` the addresses it fetched."""

    def __init__(self, profile: Path):
        root = ("--no-sandbox",) if os.getuid() == 0 else ()  # Chromium refuses its sandbox to root
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Chromium reads from 3 and writes to 4; a shell sets them, because Python's own pipes may have these numbers
        shell = f'exec "$@" 3</dev/fd/{theirs_in} 4>/dev/fd/{theirs_out}'
        self.process = subprocess.Popen(
            ["sh", "-c", shell, "sh", find(), *FLAGS, *root, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in), os.close(theirs_out)
        self._in, self._out, self._rest, self._number = ours_in, ours_out, b"", 0
        self.messages: list[str] = []
        self.fetched: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        page = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)  # like a window in the foreground

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        os.close(self._in), os.close(self._out)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for the answer; keep the events that come first."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(20)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _read(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium sent nothing for {seconds} s")
            part = os.read(self._in, 1 << 16)
            if not part:
                raise EOFError("Chromium ended")
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message = json.loads(line)
        if "method" in message:
            self._note(message["method"], message["params"])
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        self._events.append({"event": event, **params})
        if event == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.messages.append(str(params["args"]))
        elif event == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.fetched.append(params["request"]["url"])

    def open(self, place: Path | str) -> None:
        """Open a file, or an address."""
        self._events.clear()
        self.send("Page.navigate", url=place if isinstance(place, str) else place.resolve().as_uri())
        while not any(event["event"] == "Page.loadEventFired" for event in self._events):
            self._read(20)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page, or of the promise that it is."""
        given = {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        done = self.send("Runtime.evaluate", **given)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"].get("exception", {}).get("description", str(done)))
        return done["result"].get("value")

    def size(self, width: int, height: int, phone: bool = False) -> None:
        given = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **given)

    def theme(self, name: str) -> None:
        """Set the theme that the system prefers, ``dark`` or ``light``."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def click(self, selector: str) -> None:
        """Click an element with the mouse; a script may not copy without a click."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.run(f'{place}.scrollIntoView({{ block: "center", inline: "center", behavior: "instant" }})')
        box = self.run(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({place}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose_files(self, selector: str, paths: Iterable[Path]) -> None:
        """Give files to an ``<input type=file>``, as its dialogue would."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve()) for path in paths])

    def key(self, name: str, code: int) -> None:
        """Press a key in the focused element: ``key("Enter", 13)``."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Save a screenshot, of the whole page or of the visible part."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
