"""The generator on several machines: Ray carries the shares there and the records back.

Each machine runs the same processes as a local run does, outside of Ray's own, so a request is as
much on time there as here; Ray is only asked to start, to listen and to stop. Machines start within
a message's way of each other, which shifts a share's schedule as a whole and no latency.

Needs `pip install 'pixserve[distributed]'` on every machine, at the same version, and a Ray
cluster: `ray start --head` on one, `ray start --address=HEAD:6379` on the others.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

from gateway.errors import ConfigurationError, Unavailable
from loadtest.harness.fleet import PREPARE_S, STOP_S, Fleet, Heard
from loadtest.harness.worker.share import Batch, Broken, Message, Share

LISTEN_S = 0.5  # between two askings of a machine
ANSWER_S = 30.0  # for a machine to say anything at all


class Station:
    """A fleet of one process on the machine that Ray chose; becomes a Ray actor."""

    def __init__(self, share: Share) -> None:
        self._around = ExitStack()
        self._fleet = self._around.enter_context(Fleet([share]))
        self._told = 0

    def go(self, warm_up_s: float) -> None:
        """Start."""
        self._fleet.go(warm_up_s)

    def listen(self) -> tuple[list[Message], bool]:
        """Return what was said since the last time, and whether more is to come."""
        more = self._fleet.listen(LISTEN_S)
        heard = self._fleet.heard
        fresh = heard.batches[self._told :]
        self._told = len(heard.batches)
        in_flight = sum(heard.in_flight.values())
        said: list[Message] = [Batch(records, {}, in_flight) for records in fresh]
        if not more:
            said += [Broken(reason) for reason in heard.broken]
            said += list(heard.done.values())
        errors, heard.errors = heard.errors, type(heard.errors)()
        if errors:
            said.append(Batch(Heard().records, dict(errors), in_flight))
        return said, more

    def stop(self) -> None:
        """Send no more."""
        self._fleet.stop()

    def end(self) -> None:
        """Leave nothing behind."""
        self._around.close()


class Cluster:
    """The processes of one run on the machines of a Ray cluster; used as `Fleet` is.

    Args:
        shares: one a process; Ray spreads them over its machines.
        address: of the cluster, HOST:PORT; "auto": the one that this machine is part of.

    Raises:
        ConfigurationError: Ray is not installed, or there is no such cluster.
        Unavailable: a machine could not make ready.
    """

    def __init__(self, shares: Sequence[Share], address: str) -> None:
        self._shares = shares
        self._address = address
        self._stations: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}  # Ray's promise of what a station says → its number
        self.heard = Heard()

    def __enter__(self) -> Self:
        self._ray = _connect(self._address)
        actor = self._ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Station)
        self._stations = {share.process: actor.remote(share) for share in self._shares}
        ready = [station.__ray_ready__.remote() for station in self._stations.values()]
        try:
            self._ray.get(ready, timeout=PREPARE_S)
        except self._ray.exceptions.RayError as error:
            self._end()
            raise Unavailable("generator", f"a machine could not make ready: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pids(self) -> Mapping[str, int]:
        """The processes run elsewhere: none can be sampled from here."""
        return {}

    def go(self, warm_up_s: float) -> float:
        """Start everywhere; returns the measured part's start on this machine's clock."""
        started = [station.go.remote(warm_up_s) for station in self._stations.values()]
        start_s = time.monotonic() + warm_up_s
        self._ray.get(started, timeout=ANSWER_S)
        self._waiting = {s.listen.remote(): number for number, s in self._stations.items()}
        return start_s

    def listen(self, timeout_s: float) -> bool:
        """Take what was said within `timeout_s`; False when all have ended."""
        done, _ = self._ray.wait(list(self._waiting), timeout=timeout_s)
        for promise in done:
            number = self._waiting.pop(promise)
            try:
                said, more = self._ray.get(promise)
            except self._ray.exceptions.RayError:
                self.heard.broken.append(f"the machine of process {number} was lost")
                continue
            for message in said:
                self.heard.take(number, message)
            if more:
                self._waiting[self._stations[number].listen.remote()] = number
        return bool(self._waiting)

    def stop(self) -> None:
        """Tell all to send no more."""
        for station in self._stations.values():
            station.stop.remote()

    def _end(self) -> None:
        ended = [station.end.remote() for station in self._stations.values()]
        self._ray.wait(ended, num_returns=len(ended), timeout=STOP_S)
        for station in self._stations.values():
            self._ray.kill(station)
        self._stations = {}


def _connect(address: str) -> Any:
    """Return Ray, connected; raises `ConfigurationError`."""
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            "distributed load needs Ray: pip install 'pixserve[distributed]'"
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise ConfigurationError(f"there is no Ray cluster at {address}: {error}") from error
    return ray
