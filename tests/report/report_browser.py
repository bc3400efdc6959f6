"""Open a page in a headless Chromium: what it logs, which requests it makes, its DOM and a screenshot."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0", "--dump-dom"),
)


@dataclass(frozen=True)
class Opened:
    dom: str
    console: list[str]
    requests: list[str]
    screenshot: Path


def browser():
    """The browser's path. Without one the test is skipped, or fails under CI, whose script installs it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        hint = f"none of {', '.join(NAMES)} is on the PATH; on Debian: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(hint)
    return found


def open_page(page, folder, *, width=1200, height=1600):
    folder.mkdir()
    log, picture = folder / "net.json", folder / "page.png"
    command = [browser(), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command += [f"--window-size={width},{height}", f"--screenshot={picture}", page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in ran.stderr.splitlines() if ":CONSOLE" in line]
    return Opened(ran.stdout, console, requests_of_pages(json.loads(log.read_text())), picture)


def requests_of_pages(log):
    """URLs that pages asked for. The browser's own requests have no origin that started them."""
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [e["params"] for e in log["events"] if e["type"] == start and "url" in e.get("params", {})]
    return [e["url"] for e in events if e.get("initiator") != "not an origin"]
