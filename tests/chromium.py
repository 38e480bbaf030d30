"""Drive a headless Chromium over its debugging pipe, without a port, a library or the network."""

import json
import shutil
import subprocess
import tempfile
import time
from os import close, fdopen, pipe
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
)


class Chromium:
    """A browser with one page; `errors` lists its console errors and dialogs, `requests` the addresses it requested."""

    def __enter__(self) -> "Chromium":
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (read, browser_out), (browser_in, write) = pipe(), pipe()
        start = f'exec "$0" "$@" 3<&{browser_in} 4>&{browser_out}'
        flags = [*FLAGS.split(), "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={self.folder.name}"]
        self.process = subprocess.Popen(
            ["bash", "-c", start, str(PROGRAM), *flags],
            pass_fds=(browser_in, browser_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        close(browser_in), close(browser_out)
        self.read, self.write = fdopen(read, "rb"), fdopen(write, "wb", buffering=0)
        self.number, self.session = 0, None
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.read.close(), self.write.close()
        self.folder.cleanup()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol, record the events until its answer, and return the answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.write.write(json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _message(self) -> bytes:
        content = bytearray()
        while (byte := self.read.read1(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser ended")
            content += byte
        return bytes(content)

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif method == "Log.entryAdded":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog: {params['message']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, file: Path, fragment: str = "") -> None:
        self.ask("Page.navigate", url=f"{file.as_uri()}{fragment}")
        self.until("document.readyState == 'complete'")

    def eval(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.eval(expression):
            assert time.monotonic() < end, f"not true after {seconds} s: {expression}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element, or of its first line."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.eval(f"{find}.scrollIntoView({{block: 'center', inline: 'center'}})")
        box = self.eval(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({find}.getClientRects()[0])")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def look(self, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the window, its colour scheme, and whether it is a phone's."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
