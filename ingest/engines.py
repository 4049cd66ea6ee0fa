"""Where the work of a bulk ingest is done: in processes of this machine, or on a Ray cluster."""

import asyncio
import logging
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from typing import Any, Protocol

from ensembles.priorities import yield_to_searches
from gateway.errors import ConfigurationError, Unavailable
from ingest.bulk_work import Outcome, Work, analysed

RAY_BATCH = 256  # videos of one Ray data set; the next one begins when all of them are done
RAY_GATHER_S = 1.0  # for further videos to join a data set
LANES_A_WORKER = 2  # while one file is analysed, another is taken in or written
RAY_LANES_A_WORKER = 8  # so that a data set is large enough to keep all busy


class Engine(Protocol):
    """Does the work on videos; `lanes` is how many may be begun at once."""

    lanes: int

    async def analysed(self, work: Work) -> Outcome:
        """Analyse one video; called for several at once."""
        ...

    def close(self) -> None:
        """End what runs."""
        ...


class Processes:
    """So many processes of this machine.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self.lanes = workers * LANES_A_WORKER
        self._workers = workers
        self._pool = self._new_pool()

    async def analysed(self, work: Work) -> Outcome:
        """Analyse one video in a process of its own.

        Raises:
            Unavailable: the process died under it, as all others did with it.
        """
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, analysed, work)
        except BrokenProcessPool as error:
            if pool is self._pool:
                self._pool = self._new_pool()
            raise Unavailable("sandbox", "a bulk worker died under a video") from error

    def close(self) -> None:
        """End the processes; what they work on is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        context = get_context("spawn")  # a fork of many threads may hang
        return ProcessPoolExecutor(self._workers, context, initializer=yield_to_searches)


class Ray:
    """A Ray cluster, by Ray Data: a data set of videos, mapped over the cluster's processors.

    Args:
        address: of the cluster, or `local` for one that is started on this machine.
        workers: videos at once, in the whole cluster.

    Raises:
        ConfigurationError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, workers: int) -> None:
        self._ray = _connected(address, workers)
        self.lanes = workers * RAY_LANES_A_WORKER
        self._workers = workers
        self._waiting: queue.Queue[tuple[Work, Future[Outcome]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, name="ray", daemon=True)
        self._thread.start()

    async def analysed(self, work: Work) -> Outcome:
        """Analyse one video somewhere in the cluster.

        Raises:
            Unavailable: the cluster lost it.
        """
        future: Future[Outcome] = Future()
        self._waiting.put((work, future))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._waiting.put(None)
        self._thread.join()
        self._ray.shutdown()

    def _serve(self) -> None:
        """Map one data set after the other, until told to stop."""
        for batch in self._batches():
            try:
                self._map(batch)
            except Exception as error:  # whatever Ray raises, those who wait must learn of it
                lost = Unavailable("ray", f"Ray lost the work: {type(error).__name__}")
                for _, future in batch:
                    if not future.done():
                        future.set_exception(lost)

    def _batches(self) -> Iterator[list[tuple[Work, Future[Outcome]]]]:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            with suppress(queue.Empty):
                while len(batch) < RAY_BATCH:
                    following = self._waiting.get(timeout=RAY_GATHER_S)
                    if following is None:
                        self._waiting.put(None)
                        break
                    batch.append(following)
            yield batch

    def _map(self, batch: list[tuple[Work, "Future[Outcome]"]]) -> None:
        rows = [{"number": number, "work": work} for number, (work, _) in enumerate(batch)]
        data = self._ray.data.from_items(rows, override_num_blocks=len(rows))
        size = min(self._workers, len(rows))
        done = data.map(_mapped, num_cpus=1, compute=self._ray.data.TaskPoolStrategy(size=size))
        for row in done.iter_rows():
            future = batch[int(row["number"])][1]
            if not future.cancelled():
                future.set_result(row["outcome"])


def _mapped(row: dict[str, Any]) -> dict[str, Any]:
    """Do the work on one row of a data set."""
    return {"number": row["number"], "outcome": analysed(row["work"])}


def _connected(address: str, workers: int) -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigurationError("--ray needs Ray Data: pip install 'pixserve[ray]'") from error
    given: dict[str, Any] = {"num_cpus": workers} if address == "local" else {"address": address}
    try:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR, **given)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigurationError(f"there is no Ray cluster at {address}: {error}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray
