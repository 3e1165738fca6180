"""Several members at once, each trained by its own process: one small network leaves a large GPU idle."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures import TimeoutError as FuturesTimeout
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for_end
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import joblib
import torch

from ensemble.core.errors import EnsError, one_line
from ensemble.core.events import Listener
from ensemble.data.dataset import Dataset
from ensemble.inference.forward import out_of_memory
from ensemble.models.network import build_network
from ensemble.tracking import Tracking
from ensemble.training.engine.hardware import apply_format, choose_device
from ensemble.training.jobs.estimate import best_format
from ensemble.training.jobs.plan import Job, TrainingContext, view_of
from ensemble.training.jobs.speed_probe import training_pace
from ensemble.training.jobs.train import Outcome, open_context, train, train_one

MOST = 8
"""Processes that are tried: more would share one GPU, and the cores that feed it, too finely."""
WORTH = 1.1
"""What twice the processes must bring together: a tenth more images a second."""
WINDOW, START = 2.0, 1.0
"""Seconds for which the pace is measured, and before it is: all processes must have been told."""
PATIENCE = 300.0
"""Seconds within which every process has imported torch and built its network, or is given up."""


def train_all(
    jobs: Sequence[Job],
    dataset: Dataset,
    folder: Path,
    *,
    workers: int | None,
    device: str | None,
    retry: bool,
    listener: Listener,
    track: Tracking | None = None,
) -> list[Outcome]:
    """Train every job, `workers` at a time; None for one at a time, or as many as is faster on a CUDA device.

    Runs do not depend on who else is trained, but for the number of threads, to which sums of floats are sensitive.
    """
    groups = independent([job for job in jobs if not job.run.complete])
    chosen = choose_device(device)
    if workers is None and (chosen.type != "cuda" or len(groups) < 2):
        workers = 1
    most = min(workers or MOST, len(groups), *([] if workers else [joblib.cpu_count()]))
    if most < 2:
        return train(jobs, dataset, folder, device=device, retry=retry, listener=listener, track=track)
    open_context(jobs, dataset, folder, device="cpu", listener=listener).decode()
    if track:
        track.open(listener.note)  # the data base is made once, not by several processes at a time
    setup = WorkerSetup(
        dataset, folder, str(chosen), retry, max(1, joblib.cpu_count() // most), listener.without_bars(), track
    )
    outcomes: dict[str, Outcome] = {}
    with _pool(setup, most) as pool:
        count = workers or best_count(lambda n: pool.pace(groups[0][0], n), most)
        listener.note(f"training {count} members at a time")
        for found in pool.train(groups, count, listener.note):
            outcomes |= {outcome.job.hash: outcome for outcome in found}
    # what was complete is looked at here: it may have new test sets to predict
    left = [job for job in jobs if job.hash not in outcomes]
    rest = train(left, dataset, folder, device=device, retry=retry, listener=listener, track=track)
    outcomes |= {outcome.job.hash: outcome for outcome in rest}
    return [outcomes[job.hash] for job in jobs]


def independent(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups that have no run in common, so that no process waits for another's lock."""
    groups: list[list[Job]] = []
    for job in jobs:
        wanted = {part.hash for part in job.all()}
        same = [group for group in groups if wanted & {part.hash for one in group for part in one.all()}]
        groups = [group for group in groups if group not in same]
        groups.append([*(one for group in same for one in group), job])
    return groups


def best_count(pace: Callable[[int], float], most: int) -> int:
    """How many processes: twice as many for as long as that makes them faster together.

    pace: images a second of so many processes together; 0 where they do not fit.
    """
    count, speed = 1, pace(1)
    while 2 * count <= most:
        faster = pace(2 * count)
        if faster <= WORTH * speed:
            break
        count, speed = 2 * count, faster
    return count


@dataclass(frozen=True)
class WorkerSetup:
    """What every process is told once. threads: torch's own, of each process.  warned: the filters of warnings."""

    dataset: Dataset
    folder: Path
    device: str
    retry: bool
    threads: int
    listener: Listener
    track: Tracking | None = None
    warned: list[Any] = field(default_factory=lambda: list(warnings.filters))


class _WorkerPool:
    """Processes that wait for jobs; as many are begun as are asked for at the same time.

    Each is an executor of its own: one whose process dies is broken for good, and would take the others with it.
    """

    def __init__(self, setup: WorkerSetup, size: int) -> None:
        self._setup, self._context = setup, multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._barriers = {count: self._context.Barrier(count) for count in range(1, size + 1)}
        self._executors = [self._executor() for _ in range(size)]
        self._ready = 0

    def _executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context, _begin, (self._setup, self._barriers))

    def pace(self, job: Job, count: int) -> float:
        """Images a second of `count` processes that train `job`'s network at the same time; 0 where one fails."""
        executors = self._executors[:count]
        try:
            if count > self._ready:  # each of them waits for the others
                prepared = [executor.submit(_prepare, job, count) for executor in executors]
                for future in as_completed(prepared, PATIENCE):
                    future.result()
                self._ready = count
            begin = time.time() + START
            paces = [future.result() for future in [executor.submit(_pace, begin) for executor in executors]]
        except (EnsError, OSError, RuntimeError, ValueError, FuturesTimeout):  # training will say what is wrong
            self._barriers[count].abort()  # nobody need wait for one that died
            return 0.0
        return sum(paces) if all(paces) else 0.0

    def train(
        self, groups: Sequence[list[Job]], count: int, note: Callable[[str], None]
    ) -> Iterator[list[Outcome]]:
        """The outcomes of each group, when it is done; at most `count` groups are under way at a time."""
        waiting, running = list(groups), dict[Future[list[tuple[str, int] | None]], tuple[int, list[Job]]]()
        idle = list(range(count))
        while waiting or running:
            while waiting and idle:
                place, group = idle.pop(0), waiting.pop(0)
                running[self._submit(place, group)] = place, group
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                place, group = running.pop(future)
                idle.append(place)
                outcomes = _outcomes(group, future)
                for outcome in outcomes:
                    if outcome.error is not None:
                        note(f"{outcome.job.path.name} failed, the others go on: {one_line(outcome.error)}")
                yield outcomes

    def _submit(self, place: int, group: list[Job]) -> Future[list[tuple[str, int] | None]]:
        """Have the process at `place` train a group; a new one where that has died."""
        try:
            return self._executors[place].submit(_train, group)
        except BrokenProcessPool:
            self._executors[place].shutdown()
            self._executors[place] = self._executor()
            return self._executors[place].submit(_train, group)

    def close(self) -> None:
        """Wait for what runs, and end the processes."""
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)


def _outcomes(group: list[Job], future: Future[list[tuple[str, int] | None]]) -> list[Outcome]:
    try:
        return [Outcome(job, _error(found)) for job, found in zip(group, future.result(), strict=True)]
    except BrokenProcessPool:
        why = "its process ended (was memory short?); the same command goes on from its last checkpoint"
        return [Outcome(job, None if job.run.complete else EnsError(why)) for job in group]


def _error(found: tuple[str, int] | None) -> EnsError | None:
    if found is None:
        return None
    error = EnsError(found[0])
    error.exit_code = found[1]
    return error


@contextmanager
def _pool(setup: WorkerSetup, size: int) -> Iterator[_WorkerPool]:
    pool = _WorkerPool(setup, size)
    try:
        yield pool
    except BaseException:
        # Ctrl-C reaches the processes too, a SIGTERM of this one alone does not; each goes on from its last epoch
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.close()


# ---- in the processes ----


class _Worker:
    """What a process keeps between calls."""

    setup: WorkerSetup
    barriers: dict[int, Barrier]
    context: TrainingContext | None = None
    measured: Callable[[float, float], float] | None = None


_worker = _Worker()


def _begin(setup: WorkerSetup, barriers: dict[int, Barrier]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(setup.threads)
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)  # decided for all processes together
    warnings.filters[:] = setup.warned  # type: ignore[index]
    _worker.setup, _worker.barriers = setup, barriers


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_end([parent.sentinel])
    os._exit(1)


def _prepare(job: Job, count: int) -> None:
    """Have the network to measure with, as `count` processes do at the same time."""
    setup = _worker.setup
    device = choose_device(setup.device)
    try:
        if _worker.measured is not None:
            return
        view = view_of(job, setup.dataset)
        network = build_network(job.recipe, len(view.classes), None).to(device)
        apply_format(network, best_format(job, view, network, device))
        _worker.measured = training_pace(job.recipe, network, device)
    finally:
        _worker.barriers[count].wait(PATIENCE)


def _pace(begin: float) -> float:
    """Images a second from `begin` on; 0 where this process was late, or where memory is short."""
    assert _worker.measured is not None
    try:
        return _worker.measured(begin, WINDOW)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return 0.0


def _train(group: list[Job]) -> list[tuple[str, int] | None]:
    """Train the jobs of a group; for each what went wrong, and its exit code."""
    setup, _worker.measured = _worker.setup, None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if _worker.context is None:
        _worker.context = open_context(
            group, setup.dataset, setup.folder, device=setup.device, listener=setup.listener, track=setup.track
        )
    outcomes = [train_one(job, _worker.context, setup.folder, setup.retry) for job in group]
    return [(str(found.error), found.error.exit_code) if found.error else None for found in outcomes]
