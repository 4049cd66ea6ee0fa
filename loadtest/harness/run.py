"""The way of a run: a scenario in, a result out.

read → plan → make ready → fire and watch → ask calmly → analyse → judge
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hdrh.histogram import HdrHistogram

from gateway.client import Client
from gateway.errors import PixserveError
from loadtest.harness.analysis import ALL, Recall, analyse
from loadtest.harness.firing import Fired, Stop, Watch, fire
from loadtest.harness.histograms import per_second
from loadtest.harness.materials import payloads_of, read_lines, read_recording
from loadtest.harness.place import Place
from loadtest.harness.plan import make_plan
from loadtest.harness.recall import measure_recall
from loadtest.harness.records import Records, answered, measured
from loadtest.harness.results import Corpus, Machine, RunResult
from loadtest.harness.sampling import model_loads
from loadtest.harness.scenario import Scenario
from loadtest.harness.schedule import rates_per_s
from loadtest.harness.surroundings import count_corpus, describe_machine
from loadtest.harness.verdict import generator_of, judge, notes_of
from loadtest.harness.worker.share import TOO_MANY_IN_FLIGHT

DELETE_S = 120.0  # for an uploaded video to be gone again


@dataclass(frozen=True)
class Finished:
    """A result, and the histograms that go beside it."""

    result: RunResult
    histograms: dict[str, list[tuple[float, HdrHistogram]]]  # by target: (second, histogram)
    epoch_s: float


def run_scenario(
    scenario: Scenario,
    folder: Path,
    place: Place,
    *,
    seed: int | None = None,
    watch: Watch = lambda _: None,
    stop: Stop | None = None,
    cluster: str = "",
) -> Finished:
    """Run a scenario.

    Args:
        scenario: what is done.
        folder: that its files are relative to.
        place: what is measured.
        seed: None: the scenario's, or a new one.
        watch: told ten times a second how far it is.
        stop: ends the run early when it is set.
        cluster: address of the Ray cluster whose machines generate the load; "": this machine.

    Raises:
        ConfigurationError: the scenario cannot be run here.
        Unavailable: the generator could not make ready.
    """
    chosen = next(s for s in (seed, scenario.seed, secrets.randbits(32)) if s is not None)
    plan = make_plan(
        scenario, chosen, read_lines(scenario, folder), read_recording(scenario, folder)
    )
    items = payloads_of(scenario, plan, place.triton, place.data_dir, folder)
    machine = describe_machine()
    corpus = None if scenario.cold else count_corpus(place.url)
    fired = fire(scenario, plan, items, place, watch, stop or Stop(), cluster)
    recall = measure_recall(place.url, scenario.target, items, fired.heard.samples)
    _delete(place.url, fired.heard.made)
    result = _result(scenario, chosen, place, machine, corpus, fired, recall)
    return Finished(result, _histograms(scenario, fired.heard.records), fired.started_epoch_s)


def _result(
    scenario: Scenario,
    seed: int,
    place: Place,
    machine: Machine,
    corpus: Corpus | None,
    fired: Fired,
    recall: Mapping[str, Recall],
) -> RunResult:
    """Analyse and judge what was recorded."""
    heard, state = fired.heard, place.state
    processes = fired.sampler.processes() if fired.sampler else ()
    struck = fired.faults.struck if fired.faults else []
    found = analyse(scenario, heard.records, fired.length_s, struck, processes, recall)
    cpu_s = sum(done.cpu_s for done in heard.done.values())
    generator = generator_of(scenario, heard.records, cpu_s, fired.wall_s, fired.most_in_flight)
    verdict, why = judge(scenario, generator, found.slo, _trouble(fired))
    told = next((done for done in heard.done.values() if done.model_version), None)
    started = datetime.fromtimestamp(fired.started_epoch_s, UTC)
    hit_ratio = _hit_ratio(*fired.cache)
    return RunResult(
        scenario=scenario,
        verdict=verdict,
        why=why,
        notes=notes_of(scenario, found.figures, hit_ratio, machine),
        seed=seed,
        started_at=started.isoformat(timespec="seconds"),
        duration_s=fired.length_s,
        url=place.url,
        profile=state.profile if state else "",
        model_version=told.model_version if told else "",
        random_weights=told.random_weights if told else False,
        machine=machine,
        corpus=corpus,
        cache_hit_ratio=hit_ratio,
        generator=generator,
        targets=tuple(found.figures.values()),
        stages=found.stages,
        slo=found.slo,
        faults=found.faults,
        errors=dict(heard.errors.most_common()),
        offered_profile_per_s=tuple(rates_per_s(fired.plan.stages, int(fired.plan.duration_s))),
        series=found.series,
        curves=found.curves,
        models=model_loads(*fired.counters),
        queue=tuple(fired.sampler.queue) if fired.sampler else (),
        processes=processes,
    )


# ---- afterwards ---------------------------------------------------------------------------------


def _trouble(fired: Fired) -> list[str]:
    """Return what makes a run invalid beyond lateness."""
    trouble = list(fired.heard.broken)
    if fired.interrupted:
        trouble.append("it was interrupted: these are the figures of the part that was run")
    if fired.heard.errors.get(TOO_MANY_IN_FLIGHT):
        trouble.append(TOO_MANY_IN_FLIGHT)
    return trouble


def _hit_ratio(
    before: tuple[float, float] | None, after: tuple[float, float] | None
) -> float | None:
    """Return the share of look-ups that hit, over the run; None where it is not known."""
    if before is None or after is None:
        return None
    hits, misses = after[0] - before[0], after[1] - before[1]
    if hits < 0 or misses < 0 or hits + misses == 0:  # restarted meanwhile, or never asked
        return None
    return hits / (hits + misses)


def _histograms(
    scenario: Scenario, records: Records
) -> dict[str, list[tuple[float, HdrHistogram]]]:
    kept = answered(measured(records))
    parts = {
        target.label: kept[kept["target"] == index] for index, target in enumerate(scenario.target)
    }
    return {
        name: per_second(part["scheduled_s"], part["latency_s"])
        for name, part in ({ALL: kept} | parts).items()
    }


def _delete(url: str, video_ids: list[str]) -> None:
    """Remove what the run uploaded; what cannot be removed stays, as any video would."""
    if not video_ids:
        return
    try:
        with Client(url) as client:
            jobs = [client.delete_video(video_id).id for video_id in video_ids]
            for job in jobs:
                client.wait(job, timeout_s=DELETE_S)
    except PixserveError:
        return
