"""A headless Chromium for tests of pages: what it loads, what it complains of, what is hard to read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Watched:
    """page: Playwright's.  requests: addresses that were asked for.  complaints: errors, of the console too.

    address: what was opened.
    """

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def elsewhere(self) -> list[str]:
        """The addresses that are not of the place that was opened."""
        origin = "/".join(self.address.split("/")[:3]) + "/"
        return [address for address in self.requests if not address.startswith((origin, "data:", "blob:"))]

    @property
    def overflow(self) -> int:
        """How many pixels the page is wider than the window: 0 where it does not scroll sideways."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return found


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium through Playwright; skips where either is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a Chromium on the PATH")
    with api.sync_playwright() as playwright:
        result = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield result
        finally:
            result.close()


@contextmanager
def watched(
    result: Any, address: str, *, width: int = 1280, height: int = 900, scheme: str = "light", **options: Any
) -> Iterator[Watched]:
    """A page of its own at `address`. scheme: light or dark.  options: further ones of the browser's context."""
    context = result.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
    try:
        seen = Watched(context.new_page(), address)
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("requestfailed", lambda request: seen.complaints.append(f"failed: {request.url}"))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on(
            "console",
            lambda output: seen.complaints.append(output.text) if output.type in ("error", "warning") else None,
        )
        seen.page.goto(address)
        yield seen
    finally:
        context.close()


def low_contrasts(page: Any) -> list[Any]:
    """Texts whose contrast with what is behind them is below 4.5, the AA of WCAG: [tag, text, ratio] of each."""
    result: list[Any] = page.evaluate(_LOW_CONTRASTS)
    return result


_LOW_CONTRASTS = """() => {
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = colour => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const d = canvas.getImageData(0, 0, 1, 1).data;
  return [d[0], d[1], d[2], d[3] / 255];
};
const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const luminance = c => .2126 * linear(c[0] / 255) + .7152 * linear(c[1] / 255) + .0722 * linear(c[2] / 255);
const behind = node => {
  const layers = [];
  for (let n = node; n; n = n.parentElement) layers.unshift(rgb(getComputedStyle(n).backgroundColor));
  const over = (under, top) => under.map((v, i) => v * (1 - top[3]) + top[i] * top[3]);
  return layers.reduce(over, [255, 255, 255]);
};
const bad = [];
for (const node of document.body.querySelectorAll("*")) {
  if (![...node.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !node.getClientRects().length) continue;
  const style = getComputedStyle(node);
  const ink = rgb(node.tagName === "text" ? style.fill : style.color);
  const [dark, light] = [luminance(ink), luminance(behind(node.closest("svg") || node))].sort((x, y) => x - y);
  const ratio = (light + .05) / (dark + .05);
  if (ratio < 4.5) bad.push([node.tagName, node.textContent.slice(0, 30), ratio]);
}
return bad; }"""
