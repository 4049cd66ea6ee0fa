"""Catalogues for tests: SQLite always, PostgreSQL where a server and its driver are installed."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from gateway.catalogue.analyses import Findings, Modalities, SceneRecord, SegmentRecord
from gateway.catalogue.catalogue import Catalogue, tables
from gateway.catalogue.database import Database
from gateway.catalogue.library import NewVideo
from gateway.schemas import Modality, VideoMetadata

READY = Modality(percent=100, state="ready")
DATABASES = ("sqlite", "postgresql")


@contextmanager
def postgresql(folder: Path, port: int) -> Iterator[str]:
    """A real PostgreSQL server of our own; skips where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (str(programs[-1] / "initdb") if programs else None)
    if found is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs a PostgreSQL server and psycopg")
    programs_dir = Path(found).resolve().parent
    user = "nobody" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        for parent in (folder, *folder.parents):
            if not parent.stat().st_mode & 0o001 and parent.owner() == "root":
                parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    ours = partial(subprocess.run, check=True, capture_output=True, user=user, cwd=folder)
    ours([programs_dir / "initdb", "-D", data, "-U", "pixserve", "--auth=trust", "--no-sync"])
    options = f"-p {port} -h 127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    log = folder / "postgresql.log"
    ours([programs_dir / "pg_ctl", "start", "-w", "-D", data, "-o", options, "-l", log])
    try:
        yield f"postgresql+psycopg://pixserve@127.0.0.1:{port}/postgres"
    finally:
        # Fails where the server has gone by itself, which is what is wanted.
        stop = [programs_dir / "pg_ctl", "stop", "-D", data, "-m", "immediate"]
        subprocess.run(stop, check=False, capture_output=True, user=user, cwd=folder)


@contextmanager
def empty_catalogue(url: str) -> Iterator[Catalogue]:
    """A catalogue with nothing in it, whatever a test before left in its database."""
    database = Database(url)
    with database.write() as connection:
        tables.metadata.drop_all(connection)
    database.close()
    catalogue = Catalogue(url)
    yield catalogue
    catalogue.close()


def new_video(video_id: str = "video-1", **changes: object) -> NewVideo:
    """A video as an upload makes it; `changes` are of its metadata."""
    return NewVideo(
        id=video_id,
        content_sha256="0" * 64,
        source_name="source.mp4",
        transcript_name=None,
        metadata=VideoMetadata(**changes),  # type: ignore[arg-type]
        duration_s=20.0,
        width=320,
        height=240,
        has_video=True,
        has_audio=False,
    )


def findings(video_id: str, *, segments: int = 3, pix: int = 0, revision: int = 1) -> Findings:
    """What an analysis of a video found."""
    return Findings(
        scenes=[SceneRecord(0.0, 5.0 * segments, 0.5)],
        segments=[
            SegmentRecord(
                id=f"{video_id}-{5000 * number:09d}",
                index=number,
                scene_index=0,
                start_s=5.0 * number,
                end_s=5.0 * number + 5,
                text=f"words {number}",
                motion=0.1,
                frames=2,
            )
            for number in range(segments)
        ],
        modalities=Modalities(visual=READY, audio=READY, transcript=READY),
        model_version="mini-1",
        pix=pix,
        revision=revision,
    )
