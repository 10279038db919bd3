"""Executors: outcomes in order, few tasks in flight, the first error of all, nothing started after it."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Iterator

import pytest

from pyfactory.errors import InvalidInputError
from pyfactory.job.executors.base import Executor
from pyfactory.job.executors.open import open_executor


@pytest.fixture(params=[1, 2, 8])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with open_executor(request.param) as opened:
        yield opened


def test_outcomes_come_in_the_order_of_the_tasks(executor: Executor) -> None:
    """The first task ends last, once all others have: with one worker it cannot wait for them."""
    others = threading.Semaphore(0)
    wait_for = min(executor.workers - 1, 4)

    def work(task: int) -> int:
        if task == 0:
            for _ in range(wait_for):
                others.acquire()
        else:
            others.release()
        return task * task

    assert executor.map(work, range(50), stage="s") == [task * task for task in range(50)]


def test_as_many_run_at_a_time_as_there_are_workers(executor: Executor) -> None:
    together = threading.Barrier(executor.workers)

    def work(_: int) -> None:
        together.wait(20)  # breaks, and fails the test, if fewer run at a time

    executor.map(work, range(executor.workers * 3), stage="s")


def test_progress_is_told_from_the_caller_after_each_task(executor: Executor) -> None:
    told: list[tuple[str, int, int | None]] = []
    threads = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        told.append((stage, done, total))
        threads.add(threading.current_thread())

    executor.map(str, range(20), stage="work", progress=progress)
    assert [stage for stage, _, _ in told] == ["work"] * len(told)
    assert told[0] == ("work", 0, 20) and told[-1] == ("work", 20, 20)
    assert [done for _, done, _ in told] == list(range(21))
    assert threads == {threading.current_thread()}


def test_no_tasks(executor: Executor) -> None:
    assert executor.map(str, [], stage="s") == []


def test_the_error_of_the_first_task_that_fails_is_raised(executor: Executor) -> None:
    """With any number of workers, though task 6 may fail only after task 7. Catches the error that came first."""
    failed = threading.Event()
    started = []

    def work(task: int) -> None:
        started.append(task)
        if task == 6 and executor.workers > 1:
            failed.wait(20)
        if task == 7:
            failed.set()
        if task in {6, 7}:
            raise InvalidInputError(f"task {task}")

    with pytest.raises(InvalidInputError, match="task 6"):
        executor.map(work, range(1000), stage="s")
    assert len(started) <= 8 + 3 * executor.workers, "what has not started is dropped"
    assert executor.map(str, [1, 2], stage="s") == ["1", "2"], "the executor goes on"


def test_tasks_that_run_are_waited_for_after_an_error() -> None:
    """Catches an error that is raised while other tasks still write."""
    begun, go, ended = threading.Event(), threading.Event(), []

    def work(task: int) -> None:
        if task == 0:
            begun.set()
            go.wait(20)
            ended.append(task)
        else:
            begun.wait(20)
            threading.Timer(0.05, go.set).start()
            raise InvalidInputError("early")

    with open_executor(2) as executor:
        with pytest.raises(InvalidInputError):
            executor.map(work, range(2), stage="s")
        assert ended == [0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InvalidInputError("told")])
def test_an_interrupt_of_the_caller_stops_the_tasks(error: BaseException | type[BaseException]) -> None:
    started = []

    def progress(stage: str, done: int, total: int | None) -> None:
        if done:
            raise error

    with open_executor(2) as executor, pytest.raises((KeyboardInterrupt, InvalidInputError)):
        executor.map(started.append, range(1000), stage="s", progress=progress)
    assert len(started) < 20


def test_ctrl_c_while_tasks_run() -> None:
    """The caller waits for tasks, and is interrupted there: nothing more is started, and what runs is waited for."""
    started, ended = [], []

    def work(task: int) -> None:
        started.append(task)
        if task == 2:
            _thread.interrupt_main()
        ended.append(task)

    with open_executor(2) as executor, pytest.raises(KeyboardInterrupt):
        executor.map(work, range(100_000), stage="s")
    assert len(started) < 100_000 and sorted(started) == sorted(ended)


def test_tasks_are_taken_as_they_are_needed() -> None:
    """Catches a queue that grows with the number of tasks."""

    class Tasks(list[int]):
        taken = 0

        def __iter__(self) -> Iterator[int]:
            for task in super().__iter__():
                Tasks.taken += 1
                yield task

    ahead = []
    done = []

    def work(task: int) -> None:
        ahead.append(Tasks.taken - len(done))
        done.append(task)

    with open_executor(2) as executor:
        executor.map(work, Tasks(range(500)), stage="s")
    assert max(ahead) <= 8


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2"])
def test_impossible_numbers_of_workers(workers: int) -> None:
    with pytest.raises(InvalidInputError, match="workers cannot run a job"):
        open_executor(workers)


def test_as_many_workers_as_cpus_by_default() -> None:
    with open_executor() as executor:
        assert executor.workers >= 1


def test_nothing_runs_after_close() -> None:
    executor = open_executor(2)
    executor.close()
    with pytest.raises(RuntimeError):
        executor.map(str, [1], stage="s")
