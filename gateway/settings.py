"""Settings of the gateway and the ingest worker: read once at the start, then passed on."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from sqlalchemy.engine import make_url

from gateway.errors import ConfigurationError

PREFIX = "PIXSERVE_"
NOT_SETTINGS = frozenset({"PIXSERVE_URL"})  # where the command line finds a gateway


Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
OptionalPort = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
PixWeight = Annotated[float, msgspec.Meta(ge=0, le=0.5)]
Rate = Annotated[float, msgspec.Meta(ge=0)]
Duration = Annotated[float, msgspec.Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting, with its default. The variable of `pix_cap` is `PIXSERVE_PIX_CAP`."""

    data_dir: str = "pixserve-data"
    profile: str = "mini"
    allow_random_weights: bool = False  # serve models that were never trained, for benchmarks
    target: Literal["cpu", "cuda"] = "cpu"  # what the local stack's Triton runs its models on
    host: str = "127.0.0.1"
    port: Port = 8080
    rpc_port: OptionalPort = 0  # of the search over gRPC; 0: it is not served
    triton: str = "127.0.0.1:8001"  # gRPC, HOST:PORT
    milvus: str = "http://127.0.0.1:19530"
    database: str = ""  # SQLAlchemy URL; "": SQLite in the data folder

    search_deadline_ms: Count = 100  # queries of words
    media_deadline_ms: Count = 2_000  # queries with an image or a sound
    clip_deadline_ms: Count = 5_000  # queries with a clip
    candidates_per_leg: Count = 60  # k of each leg; more find nothing more (docs/ranking.md)
    search_ef: Count = 200  # HNSW ef, where the engine has HNSW

    pix_weight: PixWeight = 0.2  # β of the PIX law, at most 0.5
    pix_cap: Count = 10_000  # PIX over this adds nothing to a rank
    coherence_weight: Share = 0.2  # how far matching neighbours lift a segment
    cutoff: Share = 0.6  # least evidence of the surest hit; chosen with `pixserve bench cutoff`

    base_frames_per_s: Rate = 0.2  # sampled frames a second of video at no PIX
    frames_per_pix: Rate = 0.1
    max_frames: Count = 4_096  # sampled frames of one video
    max_chunk_frames: Count = 16  # of one call to Triton; at most contracts.MAX_CHUNK_FRAMES
    decode_once: bool = True  # keyframes in which cuts were sought are sampled as they were decoded
    segment_s: Duration = 5.0  # length that segments are cut to

    # Speech recognition (docs/ingest.md); the model: a folder, or a name of the hub; "": none.
    whisper: str = ""
    whisper_revision: str = ""  # of the hub: a commit
    whisper_device: Literal["cpu", "cuda"] = "cpu"
    whisper_compute: Literal["int8", "int8_float32", "float32", "int8_float16", "float16"] = "int8"
    whisper_language: str = ""  # of all speech, such as en; "": told by ear, once a video
    whisper_threads: Count = 1  # for one video; the worker has up to two at once
    whisper_pix_per_minute: Rate = 0.0  # PIX a minute of sound must have to be transcribed

    max_upload_bytes: Count = 4 * 1024**3
    max_query_image_bytes: Count = 16 * 1024**2
    max_duration_s: Duration = 6 * 3600.0
    embedding_cache: Count = 4_096  # query embeddings kept by the gateway

    job_lease_s: Duration = 30.0
    job_attempts: Count = 5

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
    _refuse_unknown(given)
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$.")
        expected = reason.removesuffix(", got `str`")  # variables are strings before all else
        variable = PREFIX + field.rstrip("`").upper()
        raise ConfigurationError(f"{variable}: {expected}, got {source[variable]!r}") from error


def _refuse_unknown(given: Mapping[str, str]) -> None:
    """Refuse a variable that is no setting, and name the one that may be meant."""
    for field in given:
        if field not in Settings.__struct_fields__:
            near = difflib.get_close_matches(field, Settings.__struct_fields__, n=1)
            hint = f"did you mean {PREFIX}{near[0].upper()}?" if near else "unset it"
            raise ConfigurationError(f"there is no setting {PREFIX}{field.upper()}: {hint}")


def settings_to_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that make another process read the same settings."""
    return {PREFIX + k.upper(): str(getattr(settings, k)) for k in settings.__struct_fields__}
