"""Real browsers, driven by puppeteer-core in a process of Node.js: pages are opened, functions are called in them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.kit.engines import left_out
from tests.kit.node_js import node_js

EXECUTABLES = {"chromium": "/usr/lib/chromium/chromium", "firefox": "/usr/bin/firefox-esr"}
"""Where Debian has each browser; ``/usr/bin/chromium`` is a script that starts the other."""


class Browser:
    """One browser. Skips the test if it is not installed."""

    def __init__(self, kind: str, npm: Path, profile: Path) -> None:
        self.kind = kind
        executable = EXECUTABLES[kind]
        if shutil.which(executable) is None:
            left_out(f"{kind} is not installed")
        driver = Path(__file__).with_name("browsers.js")
        command = [node_js(), str(driver), str(npm), kind, executable, str(profile)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def open(self, url: str) -> Page:
        """Open a tab."""
        return Page(self, self.ask(do="open", url=url))

    def close(self) -> None:
        """End the browser."""
        try:
            self._process.communicate(timeout=30)
        finally:
            self._process.kill()

    def ask(self, **command: Any) -> Any:
        """Have the driver do something; return what comes of it. Raises `AssertionError` if it fails."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(command) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "the driver of the browser has ended: its output says why"
        answer = json.loads(line)
        assert "failed" not in answer, answer["failed"]
        return answer["value"]


class Page:
    """A tab."""

    def __init__(self, browser: Browser, number: int) -> None:
        self._browser = browser
        self._number = number

    def call(self, text: str, argument: Any = None) -> Any:
        """Call a function in the page, given as its text; return what it, or its promise, returns, as JSON has it."""
        return self._browser.ask(do="evaluate", page=self._number, text=text, argument=argument)

    def back(self) -> list[str]:
        """Go back; return why the browser, Chromium, has not kept the page, by the names of its protocol."""
        reasons: list[str] = self._browser.ask(do="back", page=self._number)
        return reasons

    def act(self, what: str, **given: Any) -> None:
        """Do something to the page: ``goto`` a url, ``front``, ``close``, ``crash``, set its life cycle's ``state``.

        Or set its ``size``, by `width` and `height`; or ``press`` a `key`.
        """
        self._browser.ask(do=what, page=self._number, **given)
