# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium: opens a file, and says what is on the page. It talks over two pipes, so it needs no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

#: What Debian and others call it.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: The longest wait for one answer. A busy machine may take long to start it.
ANSWER_S = 120.0
#: Chromium reads commands from 3 and writes answers to 4, which may be taken where it is started.
LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(Exception):
    """It does not do what it was told."""


def program() -> str | None:
    """Return the path of a Chromium, or None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One Chromium with one page."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Args:
            folder: for its profile; nobody else uses it.
        """
        found = program()
        if found is None:
            raise BrowserError("there is no Chromium")
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        words = [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run"]
        words += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
        words = [sys.executable, "-c", LAUNCH, str(read_commands), str(write_answers), *words]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(read_commands, write_answers),
            )
        os.close(read_commands)
        os.close(write_answers)
        self._number, self._rest = 0, b""
        self._events: list[dict[str, Any]] = []
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        os.close(self._commands)
        os.close(self._answers)
        self._process.kill()
        self._process.wait()

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of this size, and wait until it is there."""
        self._events.clear()
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self._call("Emulation.setEmulatedMedia", media="screen", features=[scheme, still])
        self._call("Page.navigate", url=path.resolve().as_uri())
        self._wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression within the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Return what is in the console since the page was opened, and each request but that for the file itself."""
        self.evaluate("1")
        found = []
        for event in self._events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(told["exceptionDetails"])[:500])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(json.dumps(told["args"])[:500])
            elif event["method"] == "Log.entryAdded":
                found.append(str(told["entry"]["text"]))
            elif event["method"] == "Network.requestWillBeSent" and told.get("type") != "Document":
                found.append(f"asks for {told['request']['url']}")
        return found

    def press_enter(self) -> None:
        """Press the key and let it go."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self._call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        self._call("Input.dispatchKeyEvent", type="keyUp", **key)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Keep a picture of the page."""
        taken = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self._call("Page.printToPDF", printBackground=True)["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _wait_for(self, event: str) -> None:
        while not any(one["method"] == event for one in self._events):
            self._read(event)

    def _read(self, why: str) -> dict[str, Any]:
        """Return the next message; an event is kept as well."""
        end = time.monotonic() + ANSWER_S
        while b"\0" not in self._rest:
            ready = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]
            part = os.read(self._answers, 1 << 20) if ready else b""
            if not part:
                raise BrowserError(f"Chromium does not answer: {why}")
            self._rest += part
        text, _zero, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self._events.append(message)
        return message
