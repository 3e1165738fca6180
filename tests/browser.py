"""A headless Chromium from the system's packages, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """Playwright's browser; the test is skipped, with a reason, where Chromium or Playwright is not there."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here; `apt-get install chromium`")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page at `address` that must ask no other place for anything and say nothing on its console.

    options: of the browser's context, as `color_scheme` and `viewport`.
    """
    context = browser.new_context(**options)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    origin = "/".join(address.split("/")[:3]) + "/"
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((origin, "data:", "blob:")) else problems.append(f"asks {request.url}")
        ),
    )
    page.problems = problems
    try:
        page.goto(address)
        yield page
    finally:
        context.close()
