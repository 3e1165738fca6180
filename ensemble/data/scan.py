"""Every file below a folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ensemble.core.errors import DataError, one_line
from ensemble.core.names import extension, has_control, is_system


@dataclass(frozen=True)
class FolderContents:
    """What lies below a folder, as paths relative to it, `/`-separated, each list sorted.

    images: by their extension.  others: every other file.  folders: the folders directly in it.
    system: files and folders that an operating system made; what is in such a folder is not listed.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)


def scan(folder: Path, leave_out: frozenset[Path] = frozenset()) -> FolderContents:
    """Everything below `folder`; links are followed, names that begin with a dot passed over.

    leave_out: folders, resolved, that are passed over too. Raises DataError for a folder that cannot be read,
    a circle of links, and an image whose path has a line break or another control character.
    """
    found = FolderContents()
    _walk(folder, "", (), found, leave_out)
    for names in (found.images, found.others, found.folders, found.system):
        names.sort()
    return found


def holds_image(folder: Path, *, directly: bool = False, above: tuple[tuple[int, int], ...] = ()) -> bool:
    """Whether an image lies below `folder`, or directly in it; ends at the first. Raises DataError.

    above: the folders that it lies in, which links may lead back to.
    """
    here, entries = _entries(folder)
    if here in above:
        return False
    kept = [entry for entry in entries if not is_system(entry[0]) and entry[0][0] != "."]
    if any(extension(name) for name, is_folder in kept if not is_folder):
        return True
    return not directly and any(
        holds_image(folder / name, above=(*above, here)) for name, is_folder in kept if is_folder
    )


def _walk(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...], found: FolderContents, leave_out: frozenset[Path]
) -> None:
    here, entries = _entries(folder)
    if here in above:
        raise DataError(f"{one_line(folder)} is a link to a folder that it lies in (a loop); remove the link")
    for name, is_folder in entries:
        if is_system(name):
            found.system.append(prefix + name)
        elif name.startswith("."):
            continue
        elif not is_folder:
            _file(folder, prefix, name, found)
        elif not (leave_out and (folder / name).resolve() in leave_out):
            if not prefix:
                found.folders.append(name)
            _walk(folder / name, f"{prefix}{name}/", (*above, here), found, leave_out)


def _file(folder: Path, prefix: str, name: str, found: FolderContents) -> None:
    """List a file; the name of what is no image has no part in anything and may be what it likes."""
    if not extension(name):
        found.others.append(prefix + name)
        return
    if has_control(prefix + name):
        bad = name if has_control(name) else folder.name
        kind = "file" if bad == name else "folder"
        raise DataError(f"{one_line(folder)}: {_what_is_wrong(bad)} in the {kind} name {bad!r}{_advice(bad)}")
    found.images.append(prefix + name)


def _entries(folder: Path) -> tuple[tuple[int, int], list[tuple[str, bool]]]:
    """What the folder is, (device, inode), and (name, is a folder) for each thing in it."""
    try:
        status = folder.stat()
        with os.scandir(folder) as listing:
            return (status.st_dev, status.st_ino), [(entry.name, _is_folder(entry)) for entry in listing]
    except OSError as error:
        raise DataError(f"cannot read the folder {one_line(folder)}: {error.strerror or error}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise DataError(
            f"{one_line(entry.path)} is a link that leads nowhere ({error.strerror}); remove the link"
        ) from error


def _what_is_wrong(name: str) -> str:
    return "bytes that this locale cannot read" if _is_undecoded(name) else "a control character"


def _advice(name: str) -> str:
    if not _is_undecoded(name):
        return "; rename it"
    utf8 = sys.getfilesystemencoding().lower() == "utf-8"
    return "; rename it to UTF-8" if utf8 else "; set PYTHONUTF8=1, or a locale of UTF-8"


def _is_undecoded(name: str) -> bool:
    """Whether Python kept bytes of the name as they are, as lone surrogates."""
    return any("\udc80" <= letter <= "\udcff" for letter in name)
