"""Downloads of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ensemble.core.errors import MissingWeights

pytestmark = pytest.mark.slow


class Response:
    """What urlopen returns: a body, perhaps shorter than announced."""

    def __init__(self, body: bytes, announced: int) -> None:
        self.body, self.headers = body, {"Content-Length": str(announced)}

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, size: int = -1) -> bytes:
        block, self.body = self.body[:size], self.body[size:]
        return block


@pytest.mark.parametrize(
    ("announced", "digits", "complaint"),
    [(4, "88d4266f", None), (4, "00000000", "arrived damaged"), (9, "88d4266f", "ended after 4 of 9 bytes")],
)
def test_download_is_complete_and_right_or_leaves_nothing(
    tmp_path: Path, monkeypatch: Any, announced: int, digits: str, complaint: str | None
) -> None:
    from ensemble.models import download

    monkeypatch.setattr(download, "urlopen", lambda *_, **__: Response(b"abcd", announced))
    path = tmp_path / "cache" / "x.pth"
    if complaint is None:
        assert download.from_url("https://x.org/x.pth", path, digits).read_bytes() == b"abcd"
        return
    with pytest.raises(MissingWeights, match=complaint):
        download.from_url("https://x.org/x.pth", path, digits)
    assert list(path.parent.iterdir()) == []
