"""Recursive listing of the files below a folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ensemble.core.errors import DataError, one_line
from ensemble.core.names import extension, has_control, is_system


@dataclass(frozen=True)
class FolderContents:
    """The contents of a folder, as sorted `/`-separated paths relative to it.

    images: files with an image extension.  others: all other files.  folders: direct subfolders.
    system: files and folders created by an operating system; the contents of such folders are not listed.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)


def scan(folder: Path, leave_out: frozenset[Path] = frozenset()) -> FolderContents:
    """The contents of `folder`, recursively; links are followed, names with a leading dot are ignored.

    leave_out: resolved folders that are ignored too. Raises DataError for a folder that cannot be read, a loop of
    links, and an image whose path has a line break or another control character.
    """
    contents = FolderContents()
    _walk(folder, "", (), contents, leave_out)
    for names in (contents.images, contents.others, contents.folders, contents.system):
        names.sort()
    return contents


def holds_image(folder: Path, *, directly: bool = False, parents: tuple[tuple[int, int], ...] = ()) -> bool:
    """Whether an image is below `folder`, or directly in it. Stops at the first image. Raises DataError.

    parents: (device, inode) of the parent folders, to which links may lead back.
    """
    identity, entries = _entries(folder)
    if identity in parents:
        return False
    visible = [entry for entry in entries if not is_system(entry[0]) and entry[0][0] != "."]
    if any(extension(name) for name, is_folder in visible if not is_folder):
        return True
    return not directly and any(
        holds_image(folder / name, parents=(*parents, identity)) for name, is_folder in visible if is_folder
    )


def _walk(
    folder: Path,
    prefix: str,
    parents: tuple[tuple[int, int], ...],
    contents: FolderContents,
    leave_out: frozenset[Path],
) -> None:
    identity, entries = _entries(folder)
    if identity in parents:
        raise DataError(f"{one_line(folder)} is a link to a folder that it lies in (a loop); remove the link")
    for name, is_folder in entries:
        if is_system(name):
            contents.system.append(prefix + name)
        elif name.startswith("."):
            continue
        elif not is_folder:
            _add_file(folder, prefix, name, contents)
        elif not (leave_out and (folder / name).resolve() in leave_out):
            if not prefix:
                contents.folders.append(name)
            _walk(folder / name, f"{prefix}{name}/", (*parents, identity), contents, leave_out)


def _add_file(folder: Path, prefix: str, name: str, contents: FolderContents) -> None:
    """Add a file. Only names of images are checked, as other files are not used."""
    if not extension(name):
        contents.others.append(prefix + name)
        return
    if has_control(prefix + name):
        invalid = name if has_control(name) else folder.name
        kind = "file" if invalid == name else "folder"
        raise DataError(f"{one_line(folder)}: {_problem(invalid)} in the {kind} name {invalid!r}{_advice(invalid)}")
    contents.images.append(prefix + name)


def _entries(folder: Path) -> tuple[tuple[int, int], list[tuple[str, bool]]]:
    """(device, inode) of the folder, and (name, is a folder) of each entry."""
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


def _problem(name: str) -> str:
    return "bytes that this locale cannot read" if _is_undecoded(name) else "a control character"


def _advice(name: str) -> str:
    if not _is_undecoded(name):
        return "; rename it"
    utf8 = sys.getfilesystemencoding().lower() == "utf-8"
    return "; rename it to UTF-8" if utf8 else "; set PYTHONUTF8=1, or a locale of UTF-8"


def _is_undecoded(name: str) -> bool:
    """Whether Python has kept undecodable bytes of the name as lone surrogates."""
    return any("\udc80" <= character <= "\udcff" for character in name)
