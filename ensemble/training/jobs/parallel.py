"""Training of several members in parallel, each in its own process, as one small network underuses a large GPU."""

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
from ensemble.training.jobs.train import Outcome, open_context, train, train_job

MAX_PROCESSES = 8
"""Maximum number of processes that is chosen automatically: they share one GPU and the CPU cores that feed it."""
MIN_SPEEDUP = 1.1
"""Minimum speed-up, in total images per second, for doubling the number of processes."""
WINDOW, START_DELAY = 2.0, 1.0
"""Seconds of the speed measurement; delay of its start, in which all processes must receive the request."""
TIMEOUT = 300.0
"""Timeout in seconds for every process to import torch and build its network."""


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
    """Train every job, `workers` at a time; None: the fastest number on a CUDA device, else one at a time.

    Runs do not depend on the other jobs, except for the number of threads, which changes sums of floats.
    """
    groups = independent([job for job in jobs if not job.run.complete])
    torch_device = choose_device(device)
    if workers is None and (torch_device.type != "cuda" or len(groups) < 2):
        workers = 1
    max_count = min(workers or MAX_PROCESSES, len(groups), *([] if workers else [joblib.cpu_count()]))
    if max_count < 2:
        return train(jobs, dataset, folder, device=device, retry=retry, listener=listener, track=track)
    open_context(jobs, dataset, folder, device="cpu", listener=listener).decode()
    if track:
        track.open(listener.note)  # create the database once, not in several processes at the same time
    setup = WorkerSetup(
        dataset,
        folder,
        str(torch_device),
        retry,
        max(1, joblib.cpu_count() // max_count),
        listener.without_bars(),
        track,
    )
    outcomes: dict[str, Outcome] = {}
    with worker_pool(setup, max_count) as pool:
        count = workers or best_count(lambda n: pool.pace(groups[0][0], n), max_count)
        listener.note(f"training {count} members at a time")
        for group_outcomes in pool.train(groups, count, listener.note):
            outcomes |= {outcome.job.hash: outcome for outcome in group_outcomes}
    # complete runs are handled here, as they may have new test sets to predict
    remaining = [job for job in jobs if job.hash not in outcomes]
    rest = train(remaining, dataset, folder, device=device, retry=retry, listener=listener, track=track)
    outcomes |= {outcome.job.hash: outcome for outcome in rest}
    return [outcomes[job.hash] for job in jobs]


def independent(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group the jobs so that different groups have no run in common and no process waits for another's lock."""
    groups: list[list[Job]] = []
    for job in jobs:
        hashes = {part.hash for part in job.all()}
        shared = [group for group in groups if hashes & {part.hash for other in group for part in other.all()}]
        groups = [group for group in groups if group not in shared]
        groups.append([*(other for group in shared for other in group), job])
    return groups


def best_count(pace: Callable[[int], float], max_count: int) -> int:
    """Number of processes, doubled as long as that increases the total speed by MIN_SPEEDUP.

    pace: total images per second of a number of processes; 0 if they do not fit into memory.
    """
    count, speed = 1, pace(1)
    while 2 * count <= max_count:
        doubled = pace(2 * count)
        if doubled <= MIN_SPEEDUP * speed:
            break
        count, speed = 2 * count, doubled
    return count


@dataclass(frozen=True)
class WorkerSetup:
    """Settings of all processes.  threads: torch threads per process.  warning_filters: of the main process."""

    dataset: Dataset
    folder: Path
    device: str
    retry: bool
    threads: int
    listener: Listener
    track: Tracking | None = None
    warning_filters: list[Any] = field(default_factory=lambda: list(warnings.filters))


class _WorkerPool:
    """Pool of worker processes; only as many are started as are used at the same time.

    Each has its own executor, as the death of one process breaks its executor permanently.
    """

    def __init__(self, setup: WorkerSetup, size: int) -> None:
        self._setup, self._context = setup, multiprocessing.get_context("spawn")  # CUDA does not work after a fork
        self._barriers = {count: self._context.Barrier(count) for count in range(1, size + 1)}
        self._executors = [self._executor() for _ in range(size)]
        self._ready = 0

    def _executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context, _begin, (self._setup, self._barriers))

    def pace(self, job: Job, count: int) -> float:
        """Total images per second of `count` simultaneous processes that train `job`'s network; 0 if one fails."""
        executors = self._executors[:count]
        try:
            if count > self._ready:  # each of them waits for the others at the barrier
                prepared = [executor.submit(_prepare, job, count) for executor in executors]
                for future in as_completed(prepared, TIMEOUT):
                    future.result()
                self._ready = count
            begin = time.time() + START_DELAY
            paces = [future.result() for future in [executor.submit(_pace, begin) for executor in executors]]
        except (EnsError, OSError, RuntimeError, ValueError, FuturesTimeout):  # training will report the error
            self._barriers[count].abort()  # so that the others do not wait for a dead process
            return 0.0
        return sum(paces) if all(paces) else 0.0

    def train(
        self, groups: Sequence[list[Job]], count: int, note: Callable[[str], None]
    ) -> Iterator[list[Outcome]]:
        """Yield the outcomes of each completed group; at most `count` groups run at the same time."""
        waiting, running = list(groups), dict[Future[list[tuple[str, int] | None]], tuple[int, list[Job]]]()
        idle = list(range(count))
        while waiting or running:
            while waiting and idle:
                worker, group = idle.pop(0), waiting.pop(0)
                running[self._submit(worker, group)] = worker, group
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                worker, group = running.pop(future)
                idle.append(worker)
                outcomes = _outcomes(group, future)
                for outcome in outcomes:
                    if outcome.error is not None:
                        note(f"{outcome.job.path.name} failed, the others go on: {one_line(outcome.error)}")
                yield outcomes

    def _submit(self, worker: int, group: list[Job]) -> Future[list[tuple[str, int] | None]]:
        """Submit a group to worker number `worker`; a new process replaces a dead one."""
        try:
            return self._executors[worker].submit(_train, group)
        except BrokenProcessPool:
            self._executors[worker].shutdown()
            self._executors[worker] = self._executor()
            return self._executors[worker].submit(_train, group)

    def close(self) -> None:
        """Wait for running jobs and end the processes."""
        for executor in self._executors:
            executor.shutdown(cancel_futures=True)


def _outcomes(group: list[Job], future: Future[list[tuple[str, int] | None]]) -> list[Outcome]:
    try:
        return [Outcome(job, _error(failure)) for job, failure in zip(group, future.result(), strict=True)]
    except BrokenProcessPool:
        message = "its process ended (was memory short?); the same command goes on from its last checkpoint"
        return [Outcome(job, None if job.run.complete else EnsError(message)) for job in group]


def _error(failure: tuple[str, int] | None) -> EnsError | None:
    if failure is None:
        return None
    error = EnsError(failure[0])
    error.exit_code = failure[1]
    return error


@contextmanager
def worker_pool(setup: WorkerSetup, size: int) -> Iterator[_WorkerPool]:
    pool = _WorkerPool(setup, size)
    try:
        yield pool
    except BaseException:
        # Ctrl-C reaches the processes too, a SIGTERM to this one does not; runs resume from their last epoch
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.close()


# ---- code that runs in the worker processes ----


class _Worker:
    """State of a worker process between calls."""

    setup: WorkerSetup
    barriers: dict[int, Barrier]
    context: TrainingContext | None = None
    measure: Callable[[float, float], float] | None = None


_worker = _Worker()


def _begin(setup: WorkerSetup, barriers: dict[int, Barrier]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(setup.threads)
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)  # so that free_cores keeps this number
    warnings.filters[:] = setup.warning_filters  # type: ignore[index]
    _worker.setup, _worker.barriers = setup, barriers


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_end([parent.sentinel])
    os._exit(1)


def _prepare(job: Job, count: int) -> None:
    """Build the network for the measurement, then wait until `count` processes have done so."""
    setup = _worker.setup
    device = choose_device(setup.device)
    try:
        if _worker.measure is not None:
            return
        view = view_of(job, setup.dataset)
        network = build_network(job.recipe, len(view.classes), None).to(device)
        apply_format(network, best_format(job, view, network, device))
        _worker.measure = training_pace(job.recipe, network, device)
    finally:
        _worker.barriers[count].wait(TIMEOUT)


def _pace(begin: float) -> float:
    """Images per second from time `begin` on; 0 if this process is late or memory is insufficient."""
    assert _worker.measure is not None
    try:
        return _worker.measure(begin, WINDOW)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return 0.0


def _train(group: list[Job]) -> list[tuple[str, int] | None]:
    """Train the jobs of a group; returns (error message, exit code) for each, None for success."""
    setup, _worker.measure = _worker.setup, None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if _worker.context is None:
        _worker.context = open_context(
            group, setup.dataset, setup.folder, device=setup.device, listener=setup.listener, track=setup.track
        )
    outcomes = [train_job(job, _worker.context, setup.folder, setup.retry) for job in group]
    return [(str(outcome.error), outcome.error.exit_code) if outcome.error else None for outcome in outcomes]
