"""Draws the pictures of the page: `python tests/screenshots.py STORE FOLDER`. Needs chromium."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from process import serving

from service.store.layout import Store

DESKTOP = {"width": 1280, "height": 960}
TALL = {"width": 1280, "height": 1400}
PHONE = {"width": 380, "height": 844}
EXAMPLE = "red-top-left.jpg"


def main() -> None:
    """One picture file for each state of the page."""
    store, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with serving(Store(store, store / ".cache")) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, page in _states(browser, server.url):
            _save(page.screenshot(), folder / f"{name}.png")
            page.close()
        browser.close()


def _states(browser: Browser, url: str):
    yield "start", _open(browser, url, "light", DESKTOP)
    yield "maps", _looked(browser, url, "light", TALL, "#picture-title")
    yield "maps-dark", _looked(browser, url, "dark", TALL, "#picture-title")
    yield "phone", _looked(browser, url, "light", PHONE, "#why-title")
    moved = _looked(browser, url, "light", DESKTOP, "#moves-title")
    moved.locator("#move-all").click()
    moved.locator(".moves").last.wait_for()
    yield "moves", moved
    cost = _open(browser, url, "dark", DESKTOP)
    cost.locator("#report canvas").last.wait_for()
    _scroll(cost, "#benchmark-title")
    yield "cost-dark", cost


def _open(browser: Browser, url: str, scheme: str, viewport: dict[str, int]) -> Page:
    page = browser.new_page(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    page.locator("#serving", has_text="Serving").wait_for()
    return page


def _looked(browser: Browser, url: str, scheme: str, viewport: dict[str, int], top: str) -> Page:
    page = _open(browser, url, scheme, viewport)
    page.locator(f"[data-example='{EXAMPLE}']").click()
    for panel in page.locator("#heads article").all():
        panel.locator(".sum:visible").wait_for()
    _scroll(page, top)
    return page


def _scroll(page: Page, top: str) -> None:
    page.locator(top).evaluate("(one) => scrollTo(0, one.getBoundingClientRect().top + scrollY - 24)")


def _save(png: bytes, path: Path) -> None:
    """As a palette of 256 colours: a quarter of the size, and nobody sees the difference."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
