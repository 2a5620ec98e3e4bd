"""Headless Chromium, spoken to through its pipe: what a page shows, and pictures of it."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.awaiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE = (390, 844)
DESKTOP = (1280, 900)
WITHIN_S = 120.0


class LeftPageError(Exception):
    """The page was left for another one before it answered."""


class Browser:
    """One page of a running browser. `errors` is what its console complains of, blocked loads included."""

    def __init__(self, commands: int, replies: int) -> None:
        self._commands = commands
        self._replies = replies
        self._number = 0
        self._read = b""
        self.errors: list[str] = []
        target = self._say("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self._say("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._say(f"{domain}.enable")

    def open(self, url: str, size: tuple[int, int] = DESKTOP, dark: bool = False) -> None:
        """Load a page and wait until it is drawn."""
        self.resize(size, dark)
        self._say("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, size: tuple[int, int], dark: bool) -> None:
        width, height = size
        phone = size == PHONE
        self._say("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._say("Emulation.setEmulatedMedia", features=[scheme])

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        said = self._say("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true of the page, whichever page that is meanwhile."""
        guarded = f"(() => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }})()"

        def holds() -> bool:
            try:
                return bool(self.ask(guarded))
            except LeftPageError:
                return False

        assert eventually(holds, within_s=WITHIN_S), f"{condition} of {self.text('body')}"

    def text(self, selector: str) -> str:
        return str(self.ask(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        size = self._say("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self._say("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def _say(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        told = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", ""):
            told["sessionId"] = self._session
        os.write(self._commands, json.dumps(told).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") == self._number:
                if (error := reply.get("error")) and "navigated" in error["message"]:
                    raise LeftPageError
                assert not error, error
                return dict(reply["result"])
            match reply.get("method"):
                case "Log.entryAdded":
                    self.errors.append(reply["params"]["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.errors.append(reply["params"]["exceptionDetails"]["text"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            data = os.read(self._replies, 1 << 16)
            assert data, "the browser has ended"
            self._read += data
        line, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(line))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser that keeps what it must in `profile` and asks nothing of the network by itself."""
    assert CHROMIUM, "there is no chromium"
    (from_us, commands), (replies, from_it) = os.pipe(), os.pipe()
    process = subprocess.Popen(
        # The browser reads commands from descriptor 3 and answers on 4.
        ["bash", "-c", f'exec "$@" 3<&{from_us} 4>&{from_it}', "bash", CHROMIUM, "--headless", "--no-sandbox",
         "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        pass_fds=(from_us, from_it), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(from_us)
    os.close(from_it)
    try:
        yield Browser(commands, replies)
    finally:
        process.terminate()
        process.wait()
        os.close(commands)
        os.close(replies)
