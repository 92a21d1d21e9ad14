#!/usr/bin/env python3
"""Loads report.html of small runs in headless Chromium: what it draws, what the pointer reads, that
the switches work, that nothing is logged as an error, that hostile bytes stay text.

usage: page_test.py GPT2 [FOLDER]     GPT2: the program; screenshots are kept in FOLDER, if given
Exit code 77 (skipped) where no Chromium is found.
"""

import base64
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOSTILE = b"once </script><script>window.hurt = 1</script> <!-- \xff\xfe\xc3 & \x00 <b>bold</b>\n"


class Browser:
    """Chromium and one page of it, spoken to over two pipes (its --remote-debugging-pipe: JSON with
    a zero byte behind each message, read from descriptor 3, written to 4)."""

    def __init__(self, program: str, profile: str):
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()

        def pipes() -> None:
            # Above 4 first: one of them may be 3 or 4 already.
            high = [os.dup(to_read), os.dup(from_write)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb",
             "--window-size=1280,900", f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(from_write)
        self.out, self.into = to_write, from_read
        self.buffer = b""
        self.number = 0
        self.events: list = []
        self.session = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def read(self) -> dict:
        while b"\0" not in self.buffer:
            part = os.read(self.into, 1 << 20)
            if not part:
                raise RuntimeError("the browser ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method: str, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def load(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self.read())

    def ask(self, script: str):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, button: str = "none", buttons: int = 0) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons,
                  clickCount=1 if button != "none" else 0)

    def picture(self, **options) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, **options)["data"])

    def complaints(self) -> list:
        """Exceptions, errors and warnings of the console and the log, requests of a network."""
        self.call("Runtime.evaluate", expression="0")
        found = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"])
            elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(parameters)
            elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"])
            elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
                found.append(parameters["request"]["url"])
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def pixels(png: bytes) -> tuple:
    """Width, and the rows of a PNG with 8 bits a channel as lists of (r, g, b)."""
    place, data, width, channels = 8, b"", 0, 0
    while place < len(png):
        size, kind = struct.unpack(">I4s", png[place:place + 8])
        body = png[place + 8:place + 8 + size]
        if kind == b"IHDR":
            width, _, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8 and colour in (2, 6)
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            data += body
        place += 12 + size
    raw = zlib.decompress(data)
    stride = width * channels
    before = bytearray(stride)
    rows = []
    for start in range(0, len(raw), stride + 1):
        kind, line = raw[start], bytearray(raw[start + 1:start + 1 + stride])
        for i in range(stride):
            a = line[i - channels] if i >= channels else 0
            b = before[i]
            c = before[i - channels] if i >= channels else 0
            if kind == 1:
                line[i] = (line[i] + a) & 255
            elif kind == 2:
                line[i] = (line[i] + b) & 255
            elif kind == 3:
                line[i] = (line[i] + (a + b) // 2) & 255
            elif kind == 4:
                pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                line[i] = (line[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c)) & 255
        rows.append(bytes(line))
        before = line
    return width, channels, rows


def count(png: bytes, colour: tuple) -> int:
    """Pixels of about a colour."""
    width, channels, rows = pixels(png)
    return sum(all(abs(row[i * channels + k] - colour[k]) < 12 for k in range(3))
               for row in rows for i in range(width))


def make_runs(gpt2: str, folder: Path) -> list:
    """Two runs of a moment, the first with things in it that only other parts of the program write."""
    def call(*words):
        subprocess.run([gpt2, *map(str, words), "--quiet"], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    (folder / "text.txt").write_text("".join(f"Day {i}. The ship sailed on to island {i * 7 % 97}.\n" for i in range(900)))
    call("train-tokenizer", folder / "text.txt", "--vocab-size", 300, "--out", folder / "tokenizer")
    call("prepare", folder / "text.txt", "--out", folder / "data", "--tokenizer", folder / "tokenizer",
         "--val-fraction", 0.2)
    runs = []
    for name, rate in (("first", "1e-2"), ("<b>second", "3e-3")):
        runs.append(folder / name)
        call("train", "--data", folder / "data", "--out", runs[-1], "--layers", 1, "--heads", 2, "--channels", 32,
             "--context", 16, "--micro-batch", 4, "--batch-tokens", 64, "--steps", 120, "--lr", rate,
             "--val-every", 20, "--sample-every", 60, "--precision", "fp32")
    (runs[0] / "samples" / "step_00000060.txt").write_bytes(HOSTILE)
    lines = [json.loads(line) for line in (runs[0] / "log.jsonl").read_text().splitlines()]
    for line in lines:
        if "val_loss" in line:
            line["eval"] = {"hellaswag": {"acc": 0.25 + line["step"] / 1000, "acc_norm": 0.3},
                            "perplexity": {"bits_per_byte": 2 - line["step"] / 200}}
    lines.insert(50, {"event": "spike", "step": 49, "loss_z": 7.5})
    (runs[0] / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return runs


CHECKS = []


def check(what: str, holds: bool, got=None) -> None:
    CHECKS.append(what)
    if not holds:
        raise SystemExit(f"page_test: FAILED: {what}; got {got!r}")


PATHS = "[...document.querySelectorAll('svg[data-chart=\"%s\"] path.curve')].map(p => p.getAttribute('d'))"


def points(path: str) -> list:
    return [tuple(map(float, pair.split())) for pair in path[1:].split("L")]


def test_one_run(browser: Browser, page: Path, keep) -> None:
    browser.load(page)
    check("no error is logged", browser.complaints() == [], browser.complaints())
    charts = browser.ask("[...document.querySelectorAll('svg.plot')].map(s => s.dataset.chart)")
    check("a chart for each kind of number", charts == [
        "loss", "lr", "grad_norm", "tokens_per_second", "percent_of_peak", "eval/hellaswag", "eval/perplexity/bits_per_byte"], charts)
    curves = browser.ask(PATHS % "loss")
    check("train and validation are drawn", len(curves) == 2, len(curves))
    train = points(curves[0])
    check("every step is a point of the curve", len(train) == 120, len(train))
    check("validation has a point each 20 steps", len(points(curves[1])) == 6, curves[1])
    check("the loss falls (y grows downwards)", train[-1][1] > train[0][1] + 50, (train[0], train[-1]))
    check("x rises", all(a[0] < b[0] for a, b in zip(train, train[1:])))
    check("both scores of a task are drawn", len(browser.ask(PATHS % "eval/hellaswag")) == 2)
    marks = browser.ask("[...document.querySelectorAll('svg[data-chart=loss] [data-kind=spike] title')].map(t => t.textContent)")
    check("a spike is marked", marks == ["first: spike at step 49 loss_z: 7.5"], marks)

    check("a sample is text, whatever is in it", browser.ask("window.hurt") is None)
    sample = browser.ask("document.querySelector('#samples pre').textContent")
    check("broken UTF-8 becomes U+FFFD", sample == HOSTILE.decode(errors="replace").replace("\ufffd\ufffd\ufffd", "\ufffd\ufffd\ufffd")
          or sample.startswith("once </script><script>window.hurt = 1</script> <!-- \ufffd"), sample)
    text = browser.ask("document.body.innerText")
    for part in ("finished, 120 of 120 steps", "Configuration", "Environment", "batch-tokens", "processor", "after 60 steps"):
        check(f"the page says '{part}'", part in text)

    box = browser.ask("(r => [r.left, r.top, r.width, r.height])(document.querySelector('svg[data-chart=loss]').getBoundingClientRect())")
    middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
    browser.mouse("mouseMoved", *middle)
    tip = browser.ask("document.querySelector('.tip:not([hidden])').innerText")
    check("the pointer reads values", "train at 6" in tip or "train at 5" in tip, tip)
    check("of all curves", "validation at " in tip, tip)
    crosses = browser.ask("document.querySelectorAll('.cross[visibility=visible]').length")
    check("a line in every chart", crosses == len(charts), crosses)

    browser.mouse("mousePressed", middle[0], middle[1], "left", 1)
    browser.mouse("mouseMoved", middle[0] + 200, middle[1], "left", 1)
    browser.mouse("mouseReleased", middle[0] + 200, middle[1], "left", 0)
    zoomed = points(browser.ask(PATHS % "loss")[0])
    check("a drag enlarges a part", zoomed[-1][0] - zoomed[0][0] > 1.5 * (train[-1][0] - train[0][0]), zoomed[-1])
    browser.ask("[...document.querySelectorAll('button')].find(b => b.innerText === 'whole range').click()")
    check("and back", browser.ask(PATHS % "loss")[0] == curves[0])

    browser.ask("document.querySelector('[data-log=loss]').click()")
    logarithmic = points(browser.ask(PATHS % "loss")[0])
    check("the y axis becomes logarithmic", logarithmic[60][1] != train[60][1] and logarithmic[60][0] == train[60][0])
    browser.ask("document.querySelector('[data-log=loss]').click()")
    browser.ask("[...document.querySelectorAll('button')].find(b => b.innerText === 'log x').click()")
    check("the x axis too", abs(points(browser.ask(PATHS % "loss")[0])[20][0] - train[20][0]) > 20)
    browser.ask("[...document.querySelectorAll('button')].find(b => b.innerText === 'log x').click()")
    browser.ask("[...document.querySelectorAll('button')].find(b => b.innerText === 'tokens').click()")
    check("x can be tokens", "7k" in browser.ask("document.querySelector('svg[data-chart=loss]').textContent"))
    browser.ask("(s => { s.value = 0.9; s.dispatchEvent(new Event('input')); })(document.querySelector('input[type=range]'))")
    check("smoothing keeps the raw curve behind", browser.ask("document.querySelectorAll('svg[data-chart=loss] path.raw').length") == 1)
    check("none of this logs an error", browser.complaints() == [], browser.complaints())

    browser.ask("sessionStorage.clear()")
    for scheme, colour in (("light", (0x25, 0x63, 0xeb)), ("dark", (0x5b, 0x9d, 0xff))):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.ask("sessionStorage.clear()")
        browser.load(page)
        png = browser.picture(clip={"x": 0, "y": 0, "width": 1280, "height": 460, "scale": 1})
        if keep:
            (keep / f"report-{scheme}.png").write_bytes(browser.picture())
        check(f"a screenshot ({scheme}) has the curves' pixels", count(png, colour) > 300, count(png, colour))


def test_two_runs(browser: Browser, page: Path, keep) -> None:
    browser.load(page)
    check("two runs: no error", browser.complaints() == [], browser.complaints())
    check("four curves of loss", len(browser.ask(PATHS % "loss")) == 4)
    check("a name is text", browser.ask("document.querySelectorAll('.runs b').length") == 0)
    differing = browser.ask("[...document.querySelectorAll('#configuration tr.differs th')].map(t => t.textContent)")
    check("what differs is marked", "lr" in differing and "seed" not in differing, differing)
    browser.ask("document.querySelector('.runs input').click()")
    check("a run can be hidden", len(browser.ask(PATHS % "loss")) == 2)
    if keep:
        browser.ask("document.querySelector('.runs input').click()")
        (keep / "report-two.png").write_bytes(browser.picture())


def main() -> int:
    gpt2 = os.path.abspath(sys.argv[1])
    keep = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    program = next((found for found in map(shutil.which, NAMES) if found), None)
    if program is None:
        print("page_test: skipped, no chromium is installed (scripts/setup.sh --all installs it)")
        return 77
    with tempfile.TemporaryDirectory(prefix="gpt2-page-") as name:
        folder = Path(name)
        runs = make_runs(gpt2, folder)
        pages = [folder / "one.html", folder / "two.html"]
        subprocess.run([gpt2, "report", runs[0], "--out", pages[0], "--quiet"], check=True)
        subprocess.run([gpt2, "report", *runs, "--out", pages[1], "--quiet"], check=True)
        browser = Browser(program, str(folder / "profile"))
        try:
            test_one_run(browser, pages[0], keep)
            test_two_runs(browser, pages[1], keep)
            browser.load(runs[1] / "report.html")  # what training itself wrote
            check("it does not load itself again", browser.ask("[...document.querySelectorAll('button')].every(b => b.innerText !== 'follow')"))
            live = folder / "live.html"
            live.write_text((runs[1] / "report.html").read_text().replace('"live":false', '"live":true', 1))
            browser.load(live)
            check("one of a running run does", browser.ask("[...document.querySelectorAll('button')].some(b => b.innerText === 'follow')"))
            check("the page of the run itself", len(browser.ask(PATHS % "loss")) == 2 and browser.complaints() == [])
        finally:
            browser.close()
            time.sleep(0.2)  # its children still write into the profile
    print(f"page_test: {len(CHECKS)} checks passed with {program}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
