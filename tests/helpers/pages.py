"""Pages of reports, parsed and checked."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ensemble.core.predictions import Predictions
from ensemble.report.page import Page, report_page
from ensemble.report.sections.scope import about_run, evidence
from ensemble.runs.run import Run
from helpers.fake_runs import member

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Parsed(HTMLParser):
    """What a page holds: tags with their attributes, tables as rows of cells, the text outside style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "caption" in self.open:
            self._caption += data
        elif self._rows and self._rows[-1] and ("td" in self.open or "th" in self.open):
            self._rows[-1][-1] += data.strip()

    def table(self, begins: str) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so, by column."""
        (found,) = [rows for caption, rows in self.tables.items() if caption.startswith(begins)]
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def page_of(run: Run) -> Page:
    subject = about_run(run)
    return report_page(subject, evidence(subject))


def checked(html: str) -> Parsed:
    """The parsed page, after all that must be true of any: tags close, it asks for nothing, it can be heard."""
    result = Parsed(html)
    assert result.open == []
    for tag, attributes in result.tags:
        for key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert key not in attributes or re.match(r"#|data:image/", attributes[key] or ""), (tag, attributes)
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
        if tag == "img":
            assert (attributes.get("alt") or "").strip()
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (attributes.get("aria-label") or "").strip()
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
    assert "http" not in re.sub(r"data:image/[^\"]*|http-equiv", "", html) or "http" in result.text
    assert "url(" not in re.sub(r"url\(#", "", html)
    tables = sum(tag == "table" for tag, _ in result.tags)
    assert tables == sum(tag == "caption" for tag, _ in result.tags)
    headings = [int(tag[1]) for tag, _ in result.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    ids = [attributes["id"] for _, attributes in result.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {(attributes.get("href") or "")[1:] for tag, attributes in result.tags if tag == "a"}
    assert anchors <= set(ids)
    named = set(re.findall(r"(?:url\(|xlink:href=\")#([\w-]+)", html))
    assert named <= set(ids)
    return result


def pool(folder: Path, m: int = 3, **options: Any) -> list[Run]:
    return [member(folder, f"net{i}-0000000{i}", i, skill=0.5 + 0.1 * i, **options) for i in range(m)]


def rows_taken(item: Predictions, rows: Any) -> Predictions:
    assert item.targets is not None
    return replace(item, ids=item.ids[rows], probs=item.probs[rows], targets=item.targets[rows])
