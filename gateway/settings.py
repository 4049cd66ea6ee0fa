"""Settings of the gateway and the ingest worker: read once at the start, then passed on."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from sqlalchemy.engine import make_url

from gateway.errors import ConfigurationError

PREFIX = "PIXSERVE_"
NOT_SETTINGS = frozenset({"PIXSERVE_URL"})  # where the command line finds a gateway


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting, with its default. The variable of `pix_cap` is `PIXSERVE_PIX_CAP`."""

    data_dir: str = "pixserve-data"
    profile: str = "mini"
    host: str = "127.0.0.1"
    port: int = 8080
    triton: str = "127.0.0.1:8001"  # gRPC, HOST:PORT
    milvus: str = "http://127.0.0.1:19530"
    database: str = ""  # SQLAlchemy URL; "": SQLite in the data folder

    search_deadline_ms: int = 100  # queries of words
    media_deadline_ms: int = 2_000  # queries with an image or a sound
    candidates_per_leg: int = 100  # k of each leg
    search_ef: int = 200  # HNSW ef, where the engine has HNSW

    pix_weight: float = 0.2  # β of the PIX law, at most 0.5
    pix_cap: int = 10_000  # PIX over this adds nothing to a rank
    coherence_weight: float = 0.2  # how far matching neighbours lift a segment

    base_frames_per_s: float = 0.2  # sampled frames a second of video at no PIX
    frames_per_pix: float = 0.1
    max_frames: int = 4_096  # sampled frames of one video
    max_chunk_frames: int = 16  # of one call to Triton; at most contracts.MAX_CHUNK_FRAMES
    segment_s: float = 5.0  # length that segments are cut to

    max_upload_bytes: int = 4 * 1024**3
    max_query_image_bytes: int = 16 * 1024**2
    max_duration_s: float = 6 * 3600.0
    embedding_cache: int = 4_096  # query embeddings kept by the gateway

    job_lease_s: float = 30.0
    job_attempts: int = 5

    @property
    def data_path(self) -> Path:
        """The data folder, absolute."""
        return Path(self.data_dir).expanduser().resolve()

    @property
    def models_dir(self) -> Path:
        """Where `pixserve export` puts models and bundles."""
        return self.data_path / "models"

    @property
    def videos_dir(self) -> Path:
        """One folder a video: its file and its tokens."""
        return self.data_path / "videos"

    @property
    def uploads_dir(self) -> Path:
        """Uploads that are not complete yet."""
        return self.data_path / "uploads"

    @property
    def database_url(self) -> str:
        """The catalogue's SQLAlchemy URL."""
        return self.database or f"sqlite:///{self.data_path / 'catalogue.db'}"

    def __repr__(self) -> str:
        """Show the settings without passwords."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown["database"] = make_url(self.database_url).render_as_string(hide_password=True)
        if "@" in self.milvus:
            shown["milvus"] = "***@" + self.milvus.rpartition("@")[2]
        return f"Settings({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


def settings_from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `PIXSERVE_*` variables; an unknown or malformed one is refused."""
    source = os.environ if environment is None else environment
    given = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in source.items()
        if key.startswith(PREFIX) and key not in NOT_SETTINGS
    }
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(PREFIX + name.upper() for name in Settings.__struct_fields__)
        raise ConfigurationError(f"{error} in the {PREFIX}* variables; known: {known}") from error


def settings_to_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that make another process read the same settings."""
    return {PREFIX + k.upper(): str(getattr(settings, k)) for k in settings.__struct_fields__}
