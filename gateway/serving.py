"""The version of the models and of the index that a process serves: the catalogue's current one.

A request takes the doors once and uses them to its end, so it never mixes versions: its vectors,
its collections and its calibration are of one bundle. A switch replaces the doors as a whole.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ensembles.bundle import Bundle, servable_bundles
from gateway.doors import Doors
from gateway.errors import NotFound, PixserveError, Unavailable
from gateway.settings import Settings
from gateway.triton import Triton

LOOK_S = 0.2  # between looks at which version is current; a look is one indexed read
WARM_S = 0.5  # for Triton's new connection, and for Milvus to load the collections
TROUBLE_S = 1.0  # rest after a version could not be served, or the catalogue did not answer

log = logging.getLogger("pixserve.serving")

Connect = Callable[[Bundle], Triton]


class Serving:
    """The doors to the current version, replaced when the catalogue names another one.

    Args:
        doors: to the version that is current now; all but the bundle and Triton stays.
        connect: makes the client of a bundle's ensembles; None: at the address of the settings.
    """

    def __init__(self, doors: Doors, connect: Connect | None = None) -> None:
        self._doors = doors
        self._connect = connect or partial(Triton, doors.settings.triton)
        self._tritons = {doors.bundle.id: doors.triton}  # kept open: requests may still use them
        self._told = ""  # the version whose trouble is in the log already

    @property
    def doors(self) -> Doors:
        """The doors that a new request takes."""
        return self._doors

    async def follow(self) -> None:
        """Take over every switch, until cancelled; without the new version the old one stays."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except PixserveError as error:
                if error.message != self._told:
                    log.error("%s serves on: %s", self._doors.bundle.id, error.message)
                self._told = error.message
                await asyncio.sleep(TROUBLE_S)

    async def look(self) -> None:
        """Take the current version over, where it is another one.

        Raises:
            NotFound: this process does not have its bundle.
            Unavailable: the catalogue does not answer.
        """
        doors = self._doors
        named = await doors.threads.call(doors.catalogue.versions.current)
        if named is None or named == doors.bundle.id:
            return
        bundle = await doors.disk.call(bundle_named, doors.settings, named)
        triton = self._tritons.setdefault(named, self._connect(bundle))
        await _warm(doors, bundle, triton)
        self._doors = replace(doors, bundle=bundle, triton=triton)
        log.info("searches use %s now", named)

    async def close(self) -> None:
        """Close every connection and wait for the calls that run."""
        for name, triton in self._tritons.items():
            if name != self._doors.bundle.id:
                await triton.close()
        await self._doors.close()


async def _warm(doors: Doors, bundle: Bundle, triton: Triton) -> None:
    """Connect and load before the first request comes; what is not there now may come later."""
    try:
        await asyncio.gather(
            triton.ready(timeout_s=WARM_S),
            doors.milvus.ensure_collections(bundle, timeout_s=WARM_S),
        )
    except Unavailable as error:
        log.warning("%s is not ready yet: %s", bundle.id, error.message)


def bundle_named(settings: Settings, bundle_id: str) -> Bundle:
    """Return a bundle of the profile that may be served, by its id.

    Raises:
        NotFound: there is none; those that there are are listed.
    """
    allowed = settings.allow_random_weights
    bundles = servable_bundles(settings.models_dir, settings.profile, allowed)
    for bundle in bundles:
        if bundle.id == bundle_id:
            return bundle
    there = ", ".join(bundle.id for bundle in bundles) or "none"
    raise NotFound(
        f"there is no bundle {bundle_id!r} of the profile {settings.profile}; there are: {there}"
    )


def kept_bundles(settings: Settings, kept: tuple[str, ...]) -> tuple[Bundle, ...]:
    """Return those of the kept versions whose bundles are here."""
    allowed = settings.allow_random_weights
    bundles = servable_bundles(settings.models_dir, settings.profile, allowed)
    return tuple(bundle for bundle in bundles if bundle.id in kept)
