"""Faults on schedule: what is killed or stopped, when, and that it is always let go again."""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]  # it comes without type information

from gateway.errors import ConfigurationError
from loadtest.harness.place import Place
from loadtest.harness.proxy import SlowProxy
from loadtest.harness.scenario import Fault


@dataclass
class Struck:
    """A fault that has begun."""

    fault: Fault
    at_s: float  # when it was done, from the measured part's start
    end_s: float | None = None  # when it was over; a kill is over at once
    what: str = ""  # what was hit
    stopped: list[psutil.Process] = field(default_factory=list)


class Faults:
    """The faults of one run; `tick` does what is due.

    Args:
        faults: of the scenario.
        place: whose parts they hit.
        proxy: that makes the network slow; needed where a fault does.

    Raises:
        ConfigurationError: a fault needs the local stack, and there is none.
    """

    def __init__(self, faults: Sequence[Fault], place: Place, proxy: SlowProxy | None) -> None:
        self._waiting = sorted(faults, key=lambda fault: fault.at_s)
        self._place = place
        self._proxy = proxy
        self.struck: list[Struck] = []
        if place.state is None and any(fault.part != "network" for fault in faults):
            raise ConfigurationError(
                "faults hit the parts of a local stack: name its --data-dir, without --url"
            )

    def tick(self, now_s: float) -> None:
        """Begin and end what is due at `now_s`, from the measured part's start."""
        while self._waiting and self._waiting[0].at_s <= now_s:
            self._strike(self._waiting.pop(0), now_s)
        for struck in self.struck:
            if struck.end_s is None and now_s >= struck.at_s + struck.fault.duration_s:
                self._let_go(struck, now_s)

    def end(self, now_s: float) -> None:
        """Let everything go, also when the run was given up."""
        self._waiting = []
        for struck in self.struck:
            if struck.end_s is None:
                self._let_go(struck, now_s)

    def _strike(self, fault: Fault, now_s: float) -> None:
        struck = Struck(fault, now_s)
        self.struck.append(struck)
        if fault.kind == "slow_network":
            assert self._proxy is not None
            self._proxy.delay_s = fault.delay_ms / 1_000
            struck.what = f"{fault.delay_ms:g} ms more each way"
            return
        hit = self._targets(fault)
        struck.what = ", ".join(f"{p.name()} ({p.pid})" for p in hit) or "nothing ran"
        number = signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP
        for process in hit:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if fault.kind == "stop":
            struck.stopped = hit
        else:
            struck.end_s = now_s

    def _targets(self, fault: Fault) -> list[psutil.Process]:
        """Return whom a signal goes to: a kill to the part alone, a stop to all below it too."""
        if fault.part == "model":
            return self._place.model_processes(fault.model)
        processes = self._place.processes(fault.part)
        return processes[:1] if fault.kind == "kill" else processes

    def _let_go(self, struck: Struck, now_s: float) -> None:
        struck.end_s = now_s
        if struck.fault.kind == "slow_network" and self._proxy is not None:
            self._proxy.delay_s = 0.0
        for process in struck.stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
