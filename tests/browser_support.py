"""A page as a browser sees it: what it complains of, what it asks the network for, how wide it gets."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
FIELDS = "Object.fromEntries([...document.querySelectorAll('[data-field]')].map(e => [e.dataset.field, e.innerText]))"
WIDTHS = (1280, 420)  # pixels: a desk and a telephone


@dataclass(frozen=True)
class Opened:
    """``complaints`` of the console and of scripts, ``requests`` beyond the page itself, ``overflow`` in pixels to the
    right of the window, and the texts of elements that name a JSON field, by that field.
    """

    complaints: tuple[str, ...]
    requests: tuple[str, ...]
    overflow: int
    fields: dict[str, str]


def open_page(path: Path, width: int, screenshot: Path | None = None) -> Opened:
    """Open a local page in headless Chromium; the test is skipped where playwright or Chromium is missing."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; run: make peers")
    complaints, requests = [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.resolve().as_uri())
        page.wait_for_load_state("networkidle")
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        fields = page.evaluate(FIELDS)
        if screenshot is not None:
            page.screenshot(path=str(screenshot), full_page=True)
        browser.close()
    outside = tuple(url for url in requests if not url.startswith(("data:", path.resolve().as_uri())))
    return Opened(tuple(complaints), outside, int(overflow), fields)


def at(values: object, field: str) -> object:
    """What stands in a JSON document at a path such as ``volumes.0.ssim``."""
    for part in field.split("."):
        values = values[int(part)] if isinstance(values, list) else values[part]  # type: ignore[index]
    return values
