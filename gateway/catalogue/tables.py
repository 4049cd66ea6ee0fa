"""The catalogue's tables, as data: the truth from which the index can be rebuilt.

Times that clients read are RFC 3339 text of one width, so that they sort as text; times that
leases are computed with are seconds since the epoch.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = "4"  # raised when a table changes

# What brings an older catalogue up to the next version; one that is not here is refused.
MIGRATIONS = {
    "1": (
        "ALTER TABLE jobs ADD COLUMN priority INTEGER DEFAULT 0 NOT NULL",
        "CREATE INDEX IF NOT EXISTS jobs_next ON jobs (state, priority DESC, created_at)",
        "CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (state, updated_at)",
    ),
    "2": ("ALTER TABLE jobs ADD COLUMN kills INTEGER DEFAULT 0 NOT NULL",),
    "3": (
        "DROP INDEX IF EXISTS jobs_due",  # which SQLite prefers, and then sorts all that wait
        "DROP INDEX IF EXISTS jobs_next",
        "DROP INDEX IF EXISTS jobs_one_running_a_video",
        "CREATE INDEX jobs_next ON jobs (state, priority DESC, created_at) WHERE kind <> 'hear'",
        "CREATE INDEX IF NOT EXISTS jobs_next_to_hear ON jobs (state, priority DESC, created_at) "
        "WHERE kind = 'hear'",
        "CREATE UNIQUE INDEX jobs_one_running_a_video ON jobs (video_id) "
        "WHERE state = 'running' AND kind <> 'hear'",
        "CREATE UNIQUE INDEX IF NOT EXISTS jobs_one_hearing_a_video ON jobs (video_id) "
        "WHERE state = 'running' AND kind = 'hear'",
    ),
}

metadata = MetaData()


def _index_where(name: str, *columns: str | TextClause, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


videos = Table(
    "videos",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("creator_id", String(64), nullable=False),
    Column("content_sha256", String(64), nullable=False),
    Column("source_name", String(32), nullable=False),  # file in the video's folder: source.mp4
    Column("transcript_name", String(32)),  # sidecar in the video's folder: transcript.srt
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("category", String(64)),
    Column("language", String(64)),
    Column("tags", JSON, nullable=False),
    Column("pix", BigInteger, nullable=False),  # the sum of the video's investments
    Column("state", String(16), nullable=False),
    Column("error", Text),
    Column("duration_s", Float),
    Column("width", Integer),
    Column("height", Integer),
    Column("segment_count", Integer, nullable=False),
    Column("modalities", JSON, nullable=False),  # visual, audio, transcript → percent, state
    Column("model_version", String(64)),
    Column("analysed_pix", BigInteger),  # the PIX that the last analysis was given
    Column("revision", Integer, nullable=False),  # raised by each change of the metadata
    Column("indexed_revision", Integer, nullable=False),  # the metadata that the index copies
    Column("created_at", String(27), nullable=False),
    Index("videos_newest", "created_at", "id"),
    Index("videos_pix", "pix"),
    Index("videos_state", "state"),
    _index_where("videos_outdated", "id", where="indexed_revision < revision"),
)

scenes = Table(
    "scenes",
    metadata,
    Column("video_id", ForeignKey("videos.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("start_s", Float, nullable=False),
    Column("end_s", Float, nullable=False),
    Column("motion", Float, nullable=False),  # 0…1
)

segments = Table(
    "segments",
    metadata,
    Column("id", String(96), primary_key=True),
    Column("video_id", ForeignKey("videos.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("index", Integer, nullable=False),
    Column("scene_index", Integer, nullable=False),
    Column("start_s", Float, nullable=False),
    Column("end_s", Float, nullable=False),
    Column("text", Text, nullable=False),
    Column("motion", Float, nullable=False),
    Column("frames", Integer, nullable=False),  # sampled frames
)

investments = Table(
    "investments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("video_id", ForeignKey("videos.id", ondelete="CASCADE"), nullable=False),
    Column("key", String(64), nullable=False),  # the client's own: a retry adds nothing
    Column("pix", BigInteger, nullable=False),
    Column("created_at", String(27), nullable=False),
    UniqueConstraint("video_id", "key"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("video_id", String(64), nullable=False, index=True),  # outlives its video
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", Text, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),  # times that work on it began and counted
    # Times that its worker was killed from outside, which do not count as tries.
    Column("kills", Integer, nullable=False, server_default=text("0")),
    Column("waits", Integer, nullable=False),  # times that it was put back since it last advanced
    Column("cancelled", Boolean, nullable=False),  # asked to stop; the worker that has it obeys
    Column("priority", Integer, nullable=False, server_default=text("0")),  # higher comes first
    Column("worker", String(64)),
    Column("run_at_s", Float, nullable=False),  # not before
    Column("lease_until_s", Float, nullable=False),
    Column("created_at", String(27), nullable=False),
    Column("updated_at", String(27), nullable=False),
    # One a lane (`claims.Lane`): many videos may wait to be heard while others are looked for.
    _index_where(
        *("jobs_next", "state", text("priority DESC"), "created_at"), where="kind <> 'hear'"
    ),
    _index_where(
        *("jobs_next_to_hear", "state", text("priority DESC"), "created_at"), where="kind = 'hear'"
    ),
    Index("jobs_ended", "state", "updated_at"),
    # One worker at a time works on a video, and one hears it: the database itself says so.
    _index_where(
        *("jobs_one_running_a_video", "video_id"),
        where="state = 'running' AND kind <> 'hear'",
        unique=True,
    ),
    _index_where(
        *("jobs_one_hearing_a_video", "video_id"),
        where="state = 'running' AND kind = 'hear'",
        unique=True,
    ),
)

settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
