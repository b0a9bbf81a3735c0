"""Run tasks in processes of this machine, and survive the death of a process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

ATTEMPTS = 3
"""Number of processes that may die with a task before it is given up."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], workers: int, preload: str
) -> Iterator[tuple[Task, Result | None]]:
    """Do ``work`` on each task in ``workers`` processes with one thread each.

    The processes ignore Ctrl-C, which this process handles. They end when this process ends.

    Parameters
    ----------
    work
        The function. It, the tasks and the results can be pickled. An exception ends its process.
    tasks
        The arguments of ``work``.
    workers
        Number of processes.
    preload
        Module that ``work`` needs. It is imported once for all processes if the system can.

    Yields
    ------
    tuple
        A task and its result, in the order of completion. The result is None if ``ATTEMPTS``
        processes have died with the task.
    """
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    context.set_forkserver_preload([__name__, preload])
    waiting = deque((task, 1) for task in tasks)
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[_Worker, Task, int]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = idle.pop() if idle else _Worker(context, work)
                task, attempt = waiting.popleft()
                busy[worker.pipe] = (worker, task, attempt)
                with suppress(OSError):  # it died while idle; recv finds that below
                    worker.pipe.send(task)
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker, task, attempt = busy.pop(pipe)
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    worker.end()
                    if attempt < ATTEMPTS:
                        waiting.append((task, attempt + 1))
                    else:
                        yield task, None
                else:
                    idle.append(worker)
                    yield task, result
    finally:
        for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
            worker.end()


class _Worker:
    """A process that does one task after another, and our end of the pipe to it."""

    def __init__(self, context: Any, work: Callable[[Any], Any]) -> None:
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there, work), daemon=True)
        with _environment(ONE_THREAD):
            self.process.start()
        there.close()

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        self.process.close()


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(work(pipe.recv()))


def _leave_with_parent() -> None:
    """End this process with its parent, so that it writes nothing after the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while a process starts and reads them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
