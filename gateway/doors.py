"""The doors that requests and jobs go through, opened once a process."""

from dataclasses import dataclass

from ensembles.bundle import Bundle, servable_bundles
from gateway.catalogue.catalogue import Catalogue
from gateway.errors import ConfigurationError
from gateway.index.milvus import Milvus
from gateway.search.cache import Cache
from gateway.settings import Settings
from gateway.threads import Threads
from gateway.triton import Triton

CATALOGUE_THREADS = 4  # short reads and writes; a search makes three
DISK_THREADS = 4  # uploads and decoding, which a search must never wait behind


@dataclass(frozen=True)
class Doors:
    """What a process works with; the only way to Triton, Milvus and the catalogue."""

    settings: Settings
    bundle: Bundle
    triton: Triton
    milvus: Milvus
    catalogue: Catalogue
    threads: Threads  # for the catalogue
    disk: Threads  # for files and for decoding
    embeddings: Cache[tuple[str, str, str]]  # by bundle, kind of vector and words

    async def close(self) -> None:
        """Close every connection and wait for the calls that run."""
        await self.triton.close()
        await self.milvus.close()
        self.threads.close()
        self.disk.close()
        self.catalogue.close()


def open_doors(settings: Settings) -> Doors:
    """Open the catalogue and make the clients of Triton and Milvus, which connect when used.

    Raises:
        ConfigurationError: no bundle is exported, or the current one is not there any more.
        Unavailable: the catalogue cannot be reached.
    """
    catalogue = Catalogue(settings.database_url)
    bundle = current_bundle(settings, catalogue)
    return Doors(
        settings=settings,
        bundle=bundle,
        triton=Triton(settings.triton, bundle),
        milvus=Milvus(settings.milvus, ef=settings.search_ef),
        catalogue=catalogue,
        threads=Threads(CATALOGUE_THREADS, "catalogue"),
        disk=Threads(DISK_THREADS, "disk"),
        embeddings=Cache(settings.embedding_cache),
    )


def current_bundle(settings: Settings, catalogue: Catalogue) -> Bundle:
    """Return the bundle that the catalogue names, or make the newest exported one current.

    Raises:
        ConfigurationError: no bundle is exported, or the current one is not there any more.
    """
    servable = servable_bundles(
        settings.models_dir, settings.profile, settings.allow_random_weights
    )
    bundles = {bundle.id: bundle for bundle in servable}
    if not bundles:
        raise ConfigurationError(
            f"no bundle of the profile {settings.profile} in {settings.models_dir}: "
            f"run pixserve export --profile {settings.profile}"
        )
    named = catalogue.versions.current()
    if named is None:
        newest = list(bundles.values())[-1]
        catalogue.versions.switch(newest.id)
        return newest
    if named not in bundles:
        raise ConfigurationError(
            f"the catalogue's current bundle is {named}, but the profile {settings.profile} has "
            f"{', '.join(bundles)}: start with the profile that the data folder was made with"
        )
    return bundles[named]
