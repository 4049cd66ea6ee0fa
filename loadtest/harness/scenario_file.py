"""Scenarios as TOML files, decoded strictly.

An unknown key, a rate of zero or a scenario that promises nothing is refused before anything is
started.
"""

import difflib
import re
import tomllib
from importlib import resources
from pathlib import Path

import msgspec

from gateway.errors import ConfigurationError, NotFound
from loadtest.harness.scenario import (
    LONGEST_S,
    Burst,
    Closed,
    Constant,
    EmbedImages,
    EmbedQuery,
    EmbedVideo,
    Fault,
    HttpGet,
    Load,
    Queries,
    Ramp,
    Replay,
    Scenario,
    SearchImage,
    SearchText,
    Slo,
    Steps,
    Upload,
    duration_s,
)

PACKAGE = "loadtest.scenarios"

_TARGETS = (SearchText, SearchImage, Upload, EmbedQuery, EmbedImages, EmbedVideo, HttpGet)
_LOADS = (Constant, Ramp, Steps, Burst, Replay, Closed)
_TABLES: tuple[type[msgspec.Struct], ...] = (*_TARGETS, *_LOADS, Scenario, Slo, Fault, Queries)

KINDS = tuple(str(kind.__struct_config__.tag) for kind in _TARGETS)
SHAPES = tuple(str(shape.__struct_config__.tag) for shape in _LOADS)
KNOWN_KEYS = sorted(
    {field for table in _TABLES for field in table.__struct_fields__} | {"kind", "shape"}
)


def read_scenario(where: str) -> tuple[Scenario, Path]:
    """Read a packaged scenario by its name, or a file by its path.

    Returns:
        The scenario, and the folder that its files are relative to.

    Raises:
        NotFound: there is no such scenario.
        ConfigurationError: it is not a scenario; the message says where and why.
    """
    path = Path(where)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise NotFound(f"there is no scenario file {where}")
        return decode_scenario(path.read_bytes(), where), path.resolve().parent
    if where not in packaged_scenarios():
        near = difflib.get_close_matches(where, packaged_scenarios(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(packaged_scenarios())
        raise NotFound(f"there is no scenario {where!r}{hint} There are {known}, or a .toml file")
    text = resources.files(PACKAGE).joinpath(f"{where}.toml").read_bytes()
    return decode_scenario(text, where), Path.cwd()


def packaged_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that come with pixserve."""
    files = resources.files(PACKAGE).iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def decode_scenario(data: bytes, where: str) -> Scenario:
    """Decode and check a scenario.

    Args:
        data: TOML.
        where: a name for messages.

    Raises:
        ConfigurationError: as `read_scenario`.
    """
    try:
        tables = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where}: this is no TOML: {error}") from error
    try:
        scenario = msgspec.convert(tables, Scenario)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {_explain(str(error), tables)}") from error
    if problem := _problem(scenario):
        raise ConfigurationError(f"{where}: {problem}")
    return scenario


def _explain(error: str, tables: object) -> str:
    """Add to msgspec's message what came, and what may be meant."""
    if unknown := re.search(r"unknown field `([^`]*)`", error):
        near = difflib.get_close_matches(unknown[1], KNOWN_KEYS, n=1, cutoff=0.5)
        hint = f": did you mean {near[0]}?" if near else ""
        where = error.partition(" - at ")[2] or "the top"
        return f"unknown key {unknown[1]!r} at {where}{hint}"
    if "required field `slo`" in error:
        return NO_SLO
    if "Invalid value" in error:
        known = SHAPES if error.endswith("shape`") else KINDS
        return f"{error}; there are {', '.join(known)}"
    path = error.partition(" - at `$")[2].rstrip("`")
    return f"{error}, got {_value_at(tables, path)!r}" if path else error


def _value_at(tables: object, path: str) -> object:
    """Return what stands at a path like `.target[0].weight`; None where nothing does."""
    for key, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
        try:
            tables = tables[int(index)] if index else tables[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return tables


NO_SLO = "a scenario needs at least one [[slo]] with a bound: what must hold?"


def _problem(scenario: Scenario) -> str:
    """Return what is wrong with a scenario beyond its types; "" where nothing is."""
    labels = [target.label for target in scenario.target]
    if len(set(labels)) < len(labels):
        return f"two targets are called the same: {', '.join(labels)}; give each a name"
    if not scenario.slo or any(slo == Slo(target=slo.target) for slo in scenario.slo):
        return NO_SLO
    for slo in scenario.slo:
        if slo.target and slo.target not in labels:
            return f"an [[slo]] is about {slo.target!r}, but the targets are {', '.join(labels)}"
    if scenario.cold and scenario.load.warm_up_s > 0:
        return "a cold start has no warm-up: set load.warm_up_s = 0"
    return _load_problem(scenario.load) or _faults_problem(scenario)


def _load_problem(load: Load) -> str:
    if isinstance(load, Burst) and load.burst_s > load.every_s:
        return f"load: a burst of {load.burst_s:g} s does not fit into every {load.every_s:g} s"
    if duration_s(load) > LONGEST_S:
        return f"load: {duration_s(load):g} s is over the longest run, {LONGEST_S:g} s"
    return ""


def _faults_problem(scenario: Scenario) -> str:
    for fault in scenario.fault:
        if not isinstance(scenario.load, Replay) and fault.at_s >= duration_s(scenario.load):
            return f"a fault at {fault.at_s:g} s is after the end of the run"
        if (fault.kind == "slow_network") != (fault.part == "network"):
            return 'a fault of kind "slow_network" is one of part "network", and no other is'
        if fault.kind != "kill" and fault.duration_s <= 0:
            return f"a fault of kind {fault.kind!r} needs a duration_s"
        if (fault.part == "model") != bool(fault.model):
            return 'a fault of part "model" names its `model`, and no other does'
    return ""
