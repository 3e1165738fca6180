"""Download of weights: torch's files by URL, timm's from the Hugging Face hub. Fails fast without a network.

Raises OSError when the file is not available, and MissingWeights when its size or digest is wrong.
"""

from __future__ import annotations

import hashlib
import re
import sys
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ensemble.core.errors import MissingWeights
from ensemble.core.files import write_atomically
from ensemble.recipe.architectures import Architecture

TIMEOUT = 10.0
"""Seconds without data from the server after which a request fails."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def from_url(url: str, path: Path, digits: str | None) -> Path:
    """Download `url` to `path`; the sha256 must begin with `digits`."""
    from rich.console import Console
    from rich.progress import wrap_file

    with urlopen(Request(url, headers={"User-Agent": "ensemble"}), timeout=TIMEOUT) as response:
        size = int(response.headers.get("Content-Length") or 0)
        console = Console(stderr=True)
        console.print(f"downloading {url} ({size / 1e6:.0f} MB)", soft_wrap=True, highlight=False)
        quiet = not sys.stderr.isatty()
        with wrap_file(response, size, description=path.name, console=console, disable=quiet) as bar:
            return write_atomically(path, lambda file: _copy(bar, file, url, size, digits))


def _copy(response: BinaryIO, file: BinaryIO, url: str, size: int, digits: str | None) -> None:
    digest, count = hashlib.sha256(), 0
    while block := _read_block(response, url):
        digest.update(block)
        file.write(block)
        count += len(block)
    if size and count != size:
        raise MissingWeights(f"{url} ended after {count} of {size} bytes; try again")
    if digits and not digest.hexdigest().startswith(digits):
        actual = digest.hexdigest()[: len(digits)]
        raise MissingWeights(f"{url} arrived damaged: sha256 {actual} found, {digits} expected; try again")


def _read_block(response: BinaryIO, url: str) -> bytes:
    try:
        return response.read(1 << 20)
    except (OSError, HTTPException) as error:  # here, as a caller would take it for a disk error
        raise MissingWeights(f"{url} broke off ({error}); try again") from error


def _hub_file_names(architecture: Architecture) -> tuple[str, ...]:
    return (architecture.hub_file,) if architecture.hub_file else HUB_FILES


def in_hub_cache(architecture: Architecture) -> Path | None:
    """The path of the weights in the Hugging Face cache, or None."""
    if not architecture.hub_repo:
        return None
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(architecture.hub_repo, name) for name in _hub_file_names(architecture))
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def hub_digest(path: Path) -> str | None:
    """The sha256 by which the cache names the file's content, or None where the name is no sha256."""
    blob = path.resolve().name
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else None


def hub_url(architecture: Architecture) -> str:
    """The URL of the weights on the hub."""
    from huggingface_hub import hf_hub_url

    assert architecture.hub_repo
    url: str = hf_hub_url(architecture.hub_repo, _hub_file_names(architecture)[0])
    return url


def from_hub(architecture: Architecture) -> Path:
    """Download the weights into the Hugging Face cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    _check_reachable(hub_url(architecture))
    failure: Exception | None = None
    for name in _hub_file_names(architecture):
        try:
            return Path(hf_hub_download(architecture.hub_repo, name, etag_timeout=TIMEOUT))
        except EntryNotFoundError as error:
            failure = error
        except HfHubHTTPError.__bases__ as error:  # of the HTTP library that the hub's client uses
            raise OSError(str(error)) from error
    raise OSError(f"the hub has no {' or '.join(_hub_file_names(architecture))}") from failure


def _check_reachable(url: str) -> None:
    """Raise OSError at once when the server is unreachable: the hub's own client retries for half a minute."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=TIMEOUT).close()
    except HTTPError:
        return  # the server is reachable; the hub's client reports missing or forbidden files
