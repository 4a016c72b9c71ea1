"""A headless Chromium for tests of pages, over its DevTools pipe."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = bool(os.environ.get("FER_TF_NEEDS_BROWSER"))  # .ci/run sets it, so that a missing program is a failure
needs_chromium = pytest.mark.skipif(CHROMIUM is None and not NEEDED, reason="no Chromium is installed")
PATIENCE_SECONDS = 180


def _pipe():
    """A pipe whose ends have numbers from 10 on."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:  # an open end would hide that the browser has ended
        os.close(end)
    return moved


class Chromium:
    """A headless Chromium, driven over its DevTools pipe (JSON messages, each followed by a NUL)."""

    def __init__(self, *more_flags):
        # Chromium exits if the path of its socket has more than 107 letters, which pytest's folders would cause.
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", dir="/tmp", ignore_cleanup_errors=True)
        # The browser reads from descriptor 3 and writes to 4, so our descriptors must have other numbers.
        read_end, self._write = _pipe()
        self._read, write_end = _pipe()

        def hand_over():
            os.dup2(read_end, 3)
            os.dup2(write_end, 4)

        assert CHROMIUM, "no Chromium is installed"
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
        flags += " --disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe"
        self.process = subprocess.Popen(
            [CHROMIUM, *flags.split(), *more_flags, f"--user-data-dir={self._folder.name}"],
            preexec_fn=hand_over,
            pass_fds=(3, 4),
            env={**os.environ, "TMPDIR": self._folder.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_end)
        os.close(write_end)
        self._number, self._left, self.events = 0, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # Service workers send requests themselves: make them wait until these requests are watched too.
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    _session = None

    def call(self, method, **parameters):
        browser_wide = method.split(".")[0] in ("Browser", "Storage")
        number = self._send(None if browser_wide else self._session, method, parameters)
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _send(self, session, method, parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self._number

    def _receive(self):
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], PATIENCE_SECONDS)
            assert ready, "Chromium does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._left += part
        message, self._left = self._left.split(b"\0", 1)
        message = json.loads(message)
        if "method" in message:
            self.events.append(message)
        if message.get("method") == "Target.attachedToTarget" and message["params"]["waitingForDebugger"]:
            worker = message["params"]["sessionId"]
            for method in ("Network.enable", "Runtime.enable", "Log.enable", "Runtime.runIfWaitingForDebugger"):
                self._send(worker, method, {})
        return message

    def open(self, path, width):
        """Shows a page in a window of this width; returns once it is loaded."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=path if isinstance(path, str) else path.resolve().as_uri())
        end = time.monotonic() + 120
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < end
            self._receive()

    def value(self, expression):
        """Evaluates an expression; waits for it if it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition, seconds=PATIENCE_SECONDS):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(condition):
            assert time.monotonic() < end, (condition, self.value("document.body.innerText"))
            time.sleep(0.1)

    def choose(self, selector, *paths):
        """Chooses files, as a visitor does."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
        self.call("DOM.setFileInputFiles", objectId=found["result"]["objectId"], files=[str(path) for path in paths])

    def requests(self):
        """The addresses that the page and its service worker requested."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def messages(self):
        """The messages in the console."""
        found = []
        for event in self.events:
            values = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(values["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                found.append(values["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in values["args"]))
        return found

    def screenshot(self):
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        return base64.b64decode(picture["data"])

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()
