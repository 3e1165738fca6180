"""The service's page in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import browser as chromium
from helpers.browser import watched
from helpers.served import send_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


GIVE = """([name, bytes, kind]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  const event = kind === "drop"
    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
  document.getElementById("give").dispatchEvent(event);
}"""


@pytest.fixture
def label(served_runs: Path, address: str) -> str:
    (item,) = send_files(address, served_runs / "x.png").json()["predictions"]
    return f"{item['label']} {100 * item['probability']:.1f} %"


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_images_are_predicted(
    served_runs: Path, address: str, browser: Any, label: str, kind: str
) -> None:
    with watched(browser, address) as seen:
        page = seen.page
        page.evaluate(GIVE, ["<b>x</b>.png", list((served_runs / "x.png").read_bytes()), kind])
        page.wait_for_selector(".maps img")
        assert page.inner_text(".answer .label") == label
        assert page.inner_text("figcaption.name") == "<b>x</b>.png"
        assert page.inner_text("#said").startswith("<b>x</b>.png: ")
        assert page.locator(".members tbody tr").count() == 4 and page.locator(".maps img").count() == 3
        assert "not a medical device" in page.inner_text("main")
        assert page.locator("#camera").get_attribute("capture") == "environment"
        assert seen.complaints == [] and seen.elsewhere == []
        page.evaluate(GIVE, ["no.png", list(b"no image"), kind])
        page.wait_for_selector("#wrong p")
        assert "not an image of a known format" in page.inner_text("#wrong")
        assert page.locator(".answer").count() == 0


def test_keyboard_is_enough(served_runs: Path, address: str, browser: Any, label: str) -> None:
    with watched(browser, address) as seen:
        page = seen.page
        page.bring_to_front()  # Chromium opens no dialog for a page behind that of an earlier test
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(served_runs / "x.png")
        page.wait_for_selector(".maps img")
        assert page.inner_text(".answer .label") == label
        reached = set()
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.tagName"))
        assert {"SELECT", "A"} <= reached
        page.focus("select")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        first = page.eval_on_selector("select", "one => one.options[0].value")
        page.locator(".maps-said", has_text=f"“{first}”").wait_for()
        assert (
            page.get_attribute("#said", "aria-live") == "polite" and page.get_attribute("#wrong", "role") == "alert"
        )
        assert seen.complaints == [] and seen.elsewhere == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(served_runs: Path, address: str, browser: Any, scheme: str) -> None:
    phone = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}
    with watched(browser, address, scheme=scheme, **phone) as seen:
        page = seen.page
        page.set_input_files("#files", [served_runs / "x.png", served_runs / "photos" / "large.png"])
        page.locator(".maps img").nth(5).wait_for()
        assert seen.overflow <= 0
        assert page.locator(".answer").count() == 2 and page.locator("label", has_text="Take a photo").is_visible()
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
        assert (sum(map(int, dark)) < 200) == (scheme == "dark")
        assert seen.complaints == [] and seen.elsewhere == []
