"""Pages in a browser, and pictures of what networks look at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.browser import browser, low_contrasts, watched
from helpers.pages import checked, page_of, pool
from helpers.photos import split_folders

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.runs.run import Run

pytestmark = pytest.mark.usefixtures("quick_report")


@pytest.mark.slow
def test_report_in_a_browser(tmp_path: Path) -> None:
    classes = [f"a rather long name of class number {c}" for c in range(23)]
    runs = tmp_path / "runs"
    created = combine(pool(runs, n=230, classes=classes), folder=runs, rule="auto").run
    path = tmp_path / "page.html"
    path.write_text(page_of(created).html, encoding="utf-8")
    with browser() as chromium:
        for scheme in ("light", "dark"):
            for width in (390, 1280):
                with watched(chromium, path.as_uri(), width=width, scheme=scheme) as seen:
                    assert seen.requests == [path.as_uri()] and seen.complaints == []
                    assert seen.overflow <= 0
                    assert low_contrasts(seen.page) == []
                    seen.page.keyboard.press("Tab")
                    assert seen.page.evaluate("document.activeElement.getAttribute('href')") == "#summary"


RECIPE = """
data: {form: folders, path: photos, medical: true}
defaults: {weights: none, image_size: 32, batch_size: 8, epochs: 1, lr: 0.001, filters: [4, 8], augment: none}
members:
  - {arch: customnet, folds: 2, name: one}
  - {arch: customnet, folds: 2, name: two, seed: 1}
"""


@pytest.mark.slow
def test_recipe_ends_in_a_page_with_gradcam_of_the_folds(
    here: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    split_folders(Path("photos"), {"train": 10, "valid": 6}, ["left", "right"], name="{split}{number}.png")
    Path("mine.yaml").write_text(RECIPE)
    assert ens(["run", "mine.yaml", "--no-report"]) == 0
    assert not Path("runs/report").exists()
    assert ens(["run", "mine.yaml"]) == 0
    path = Path("runs/report/mine.html")
    assert f"report: {path}" in capfd.readouterr().err
    result = checked(path.read_text(encoding="utf-8"))
    assert "This is not a medical device." in result.text and "mine.yaml" in result.text
    pictures = [str(attributes["alt"]) for tag, attributes in result.tags if tag == "img"]
    cams = [says for says in pictures if "Grad-CAM" in says]
    assert len(cams) == 2 * (len(pictures) - len(cams)) > 0
    for says in cams:
        fold, name = re.fullmatch(r"Where (\S+) looks for \w+ in (\S+) \(Grad-CAM\).*", says).groups()  # type: ignore
        assert name in Run(Path("runs") / fold).predictions("valid").ids.tolist()
    drawn = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/figures/gradcam/*.png")}
    assert len(drawn) == len(cams)
    assert ens(["report", "--recipe", "mine.yaml"]) == 0
    assert drawn == {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/figures/gradcam/*.png")}
    assert path.read_text(encoding="utf-8").count("<img") == len(pictures)
    Path("photos/train/left/train0.png").unlink()
    (ensemble,) = Path("runs").glob("ensemble-*")
    assert ens(["report", ensemble.name, "--out", "moved.html"]) == 0
    text = checked(Path("moved.html").read_text(encoding="utf-8")).text
    assert "No images: its images have changed since." in text
