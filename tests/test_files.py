"""Laws of files on disk: whole or not there, and an error of the disk is one line."""

from __future__ import annotations

import errno
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ensemble.core import files
from ensemble.core.errors import EnsError, RunLocked
from ensemble.core.files import sha256_file, write_atomically
from ensemble.runs.run import locked


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "new" / "a.txt", "é")
    assert path.read_bytes() == "é".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    path = write_atomically(tmp_path / "a.txt", "old")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((files.os, "fsync") if step == "fsync" else (Path, "replace")), refuse)
    with pytest.raises(EnsError, match=os.strerror(code)) as caught:
        write_atomically(path, "new")
    assert caught.value.exit_code == 1
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupted_writer_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a.txt", "old")

    def half(file: BinaryIO) -> None:
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        write_atomically(pipe, b"through")
        assert read.result(10) == b"through"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(b"")
    assert sha256_file(tmp_path / "e") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _hold(folder: Path, ready: Any, leave: Any) -> None:
    with locked(folder, "a-1"):
        ready.set()
        leave.wait(30)


def test_the_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, ready, leave))
    first.start()
    assert ready.wait(30)
    with pytest.raises(RunLocked, match=f"process {first.pid} on "), locked(tmp_path, "a-1"):
        pass
    with locked(tmp_path, "b-2"):  # another run is free
        pass
    first.kill()  # a killed holder leaves no lock behind
    first.join()
    with locked(tmp_path, "a-1"):
        pass
