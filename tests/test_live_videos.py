"""The way of a video through the whole real stack: uploads of every kind, good and bad."""

import json

import httpx
import msgspec
import pytest

from ensembles.bundle import list_bundles
from gateway.client import Client
from gateway.errors import Conflict, InvalidRequest, MediaRefused, NotFound
from gateway.index.milvus import Milvus
from gateway.index.rows import LEGS
from gateway.schemas import SearchRequest, VideoMetadata, VideoPatch
from tests import media
from tests.waiting import until

pytestmark = pytest.mark.live

SRT = """1
00:00:00,200 --> 00:00:02,800
The lighthouse keeper polishes the great lens every evening.

2
00:00:03,000 --> 00:00:05,800
Fishermen mend their torn nets beside the harbour wall.
"""


def test_the_same_upload_twice_is_one_video(demo, client, tmp_path):
    path = media.make_video(tmp_path / "twice.mp4", duration_s=4)
    first = demo.stack.ingest(path, creator_id="twins", title="Twice")
    again = client.upload(path, VideoMetadata(creator_id="twins"))
    assert (again.video_id, again.existing) == (first.video_id, True)
    other = client.upload(path, VideoMetadata(creator_id="somebody-else"))
    assert other.video_id != first.video_id
    assert demo.stack.wait_for(other.job_id).state == "succeeded"


def test_a_sidecar_transcript_is_found_at_its_moment(demo, client, tmp_path):
    path = media.make_video(tmp_path / "harbour.mp4", duration_s=6)
    sidecar = tmp_path / "harbour.srt"
    sidecar.write_text(SRT)
    accepted = demo.stack.ingest(path, sidecar, title="Harbour")
    reply = client.search(SearchRequest(query="repairing fishing equipment", group="segment"))
    assert reply.hits[0].video_id == accepted.video_id
    assert "nets" in reply.hits[0].moments[0].text


async def indexed_rows(demo, video_id: str) -> dict[str, int]:
    """How many rows of a video each leg has."""
    (bundle,) = list_bundles(demo.stack.data_dir / "models", "mini")
    index = Milvus(demo.stack.part("milvus").address)
    counts = {leg: await index.count(bundle, leg, video_id, timeout_s=10) for leg in LEGS}
    await index.close()
    return counts


@pytest.mark.anyio
async def test_an_audio_only_file_is_indexed_by_sound_and_transcript(demo, client, tmp_path):
    path = media.make_sound(tmp_path / "talk.m4a")
    sidecar = tmp_path / "talk.srt"
    sidecar.write_text(SRT.replace("lighthouse keeper", "watchmaker"))
    accepted = demo.stack.ingest(path, sidecar, title="Talk", creator_id="podcaster")
    video = client.video(accepted.video_id)
    assert (video.visual.state, video.audio.state) == ("absent", "ready")
    assert video.transcript.state == "ready"
    hits = client.search(SearchRequest(query="watchmaker")).hits
    assert hits[0].video_id == accepted.video_id
    rows = await indexed_rows(demo, accepted.video_id)
    assert rows["sound"] == rows["speech"] == rows["keyword"] == video.segments
    assert rows["fused"] == video.segments  # of what is heard and said alone
    assert rows["visual"] == 0


def test_a_video_without_sound_is_indexed_by_its_picture(demo, client, tmp_path):
    path = media.make_silent_video(tmp_path / "mute.mp4")
    accepted = demo.stack.ingest(path, title="Mute", creator_id="mime")
    video = client.video(accepted.video_id)
    assert (video.visual.state, video.audio.state) == ("ready", "absent")
    assert video.visual.percent == 100
    assert video.segments >= 1


@pytest.mark.parametrize(
    ("suffix", "video_codec", "audio_codec"),
    [
        (".mp4", "libx264", "aac"),
        (".mov", "libx265", "aac"),
        (".webm", "libvpx-vp9", "libopus"),
        (".webm", "libvpx", "libopus"),
        (".webm", "libsvtav1", "libopus"),
        (".mkv", "libx264", "aac"),
    ],
)
def test_every_container_and_codec_is_taken(
    demo, client, tmp_path, suffix, video_codec, audio_codec
):
    path = media.make_video(
        tmp_path / f"clip{suffix}", video_codec=video_codec, audio_codec=audio_codec
    )
    accepted = demo.stack.ingest(path, creator_id=f"codec-{video_codec}")
    video = client.video(accepted.video_id)
    assert (video.state, video.visual.state, video.audio.state) == ("ready", "ready", "ready")
    assert video.duration_s == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (media.make_text_file, "notes.mp4"),
        (media.make_truncated_video, "cut.mp4"),
        (media.make_empty_file, "empty.mp4"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_refused_and_leaves_nothing(
    demo, client, tmp_path, make, name
):
    before = {path.name for path in (demo.stack.data_dir / "videos").iterdir()}
    with pytest.raises(MediaRefused) as refused:
        client.upload(make(tmp_path / name), VideoMetadata(creator_id="careless"))
    assert refused.value.reason
    assert {path.name for path in (demo.stack.data_dir / "videos").iterdir()} == before
    assert not list((demo.stack.data_dir / "uploads").iterdir())
    assert all(video.creator_id != "careless" for video in client.videos(limit=100).videos)


def test_a_hostile_file_name_is_only_a_name(demo, tmp_path):
    data = media.make_video(tmp_path / "clip.mp4", duration_s=3).read_bytes()
    metadata = json.dumps({"creator_id": "traveller"})
    for name in ("../../x.mp4", "/etc/passwd.mp4", "a\0b.mp4", "x" * 500 + ".mp4", "..\\..\\x.mp4"):
        reply = httpx.post(
            f"{demo.stack.url}/v1/videos",
            files={"metadata": (None, metadata), "file": (name, data)},
            timeout=30,
        )
        assert reply.status_code in {202, 400}, reply.text
    escaped = [demo.stack.data_dir.parent / "x", demo.stack.data_dir.parent / "x.mp4"]
    assert not any(path.exists() for path in escaped)


def test_a_broken_transcript_is_refused(client, tmp_path):
    path = media.make_video(tmp_path / "clip.mp4", duration_s=3)
    broken = tmp_path / "clip.srt"
    broken.write_text("1\n00:00:99 --> what\nhello\n")
    with pytest.raises((InvalidRequest, MediaRefused)):
        client.upload(path, VideoMetadata(creator_id="mumbler"), broken)
    assert all(video.creator_id != "mumbler" for video in client.videos(limit=100).videos)


@pytest.mark.parametrize(
    "metadata", ["{", '{"pix": -1}', '{"pix": "many"}', '{"nonsense": 1}', '{"creator_id": "../x"}']
)
def test_metadata_that_is_wrong_is_refused_naming_the_field(demo, tmp_path, metadata):
    data = media.make_video(tmp_path / "clip.mp4", duration_s=3).read_bytes()
    reply = httpx.post(
        f"{demo.stack.url}/v1/videos",
        files={"metadata": (None, metadata), "file": ("clip.mp4", data)},
        timeout=30,
    )
    assert reply.status_code == 400
    assert reply.json()["message"]


@pytest.mark.parametrize(
    "body", ['{"pix": -5, "key": "a"}', '{"pix": 0, "key": "a"}', '{"pix": "ten", "key": "a"}',
             '{"pix": 1e400, "key": "a"}', '{"pix": 5}', '{"pix": 5, "key": "../a"}'],
)  # fmt: skip
def test_an_investment_that_is_wrong_is_refused(demo, client, body):
    video_id = demo.ids["kite"]
    before = client.video(video_id).pix
    reply = httpx.post(f"{demo.stack.url}/v1/videos/{video_id}/investments", content=body)
    assert reply.status_code == 400
    assert client.video(video_id).pix == before


def test_a_repeated_key_adds_nothing_and_another_amount_under_it_is_a_conflict(demo, client):
    video_id = demo.ids["chess"]
    before = client.video(video_id).pix
    assert client.invest(video_id, 7, "once").total_pix == before + 7
    assert client.invest(video_id, 7, "once").repeated
    with pytest.raises(Conflict):
        client.invest(video_id, 8, "once")
    assert client.video(video_id).pix == before + 7


def test_more_pix_looks_deeper_and_keeps_every_segments_id(demo, client, tmp_path):
    path = media.make_video(tmp_path / "deep.mp4", duration_s=20, gop=50)
    accepted = demo.stack.ingest(path, creator_id="diver")

    def segments() -> set[str]:
        hits = client.search(
            SearchRequest(image=media.image_bytes("png"), group="segment", limit=100, cutoff=0)
        ).hits
        return {h.moments[0].segment_id for h in hits if h.video_id == accepted.video_id}

    before = segments()
    invested = client.invest(accepted.video_id, 500, "dive")
    assert invested.job_id is not None
    assert demo.stack.wait_for(invested.job_id).state == "succeeded"
    assert before
    assert segments() == before


def test_a_change_of_metadata_is_searched_at_once_and_never_changes_pix(demo, client, tmp_path):
    path = media.make_video(tmp_path / "renamed.mp4", duration_s=3)
    accepted = demo.stack.ingest(path, creator_id="renamer", title="Old", pix=12)
    client.patch_video(accepted.video_id, VideoPatch(title="Xylophone lesson", category="music"))
    assert client.video(accepted.video_id).title == "Xylophone lesson"
    assert client.video(accepted.video_id).pix == 12
    reply = httpx.patch(f"{demo.stack.url}/v1/videos/{accepted.video_id}", json={"pix": 99})
    assert reply.status_code == 400
    assert client.video(accepted.video_id).pix == 12


@pytest.mark.anyio
async def test_a_deleted_video_is_gone_from_everywhere(demo, client, tmp_path):
    path = media.make_video(tmp_path / "doomed.mp4", duration_s=3)
    sidecar = tmp_path / "doomed.srt"
    sidecar.write_text("1\n00:00:00,000 --> 00:00:02,000\nThe zeppelin hovers over Quito.\n")
    accepted = demo.stack.ingest(path, sidecar, creator_id="doomed")
    assert client.search(SearchRequest(query="zeppelin")).hits[0].video_id == accepted.video_id
    job = client.delete_video(accepted.video_id)
    hits = client.search(SearchRequest(query="zeppelin")).hits
    assert accepted.video_id not in {hit.video_id for hit in hits}
    assert demo.stack.wait_for(job.id).state == "succeeded"
    with pytest.raises(NotFound):
        client.video(accepted.video_id)
    folder = demo.stack.data_dir / "videos" / accepted.video_id
    until(lambda: not folder.exists())
    assert not any((await indexed_rows(demo, accepted.video_id)).values())


@pytest.mark.parametrize("path", ["/v1/videos/nope", "/v1/jobs/nope", "/v1/nothing"])
def test_what_is_not_there_is_not_found(demo, path):
    reply = httpx.get(demo.stack.url + path)
    assert reply.status_code == 404
    assert reply.json()["error"] == "not_found"


def test_the_list_of_videos_is_paged_without_gaps(demo):
    seen: list[str] = []
    with Client(demo.stack.url) as client:
        page = client.videos(limit=4)
        seen += [video.id for video in page.videos]
        while page.next is not None:
            page = client.videos(after=page.next, limit=4)
            seen += [video.id for video in page.videos]
    assert len(seen) == len(set(seen))
    assert set(demo.ids.values()) <= set(seen)


def test_a_recording_whose_clock_begins_late_is_found_at_its_moment(demo, client, tmp_path):
    path = media.make_video(
        tmp_path / "late.mkv",
        duration_s=12,
        start_s=3600,
        subtitles=(
            media.Cue(0.5, 3, "Glaciers carve deep valleys."),
            media.Cue(8, 11, "Penguins huddle against the wind."),
        ),
    )
    accepted = demo.stack.ingest(path, title="Late", creator_id="latecomer")
    assert client.video(accepted.video_id).duration_s == pytest.approx(12, abs=0.2)
    only = {"video_id": [accepted.video_id]}
    request = msgspec.convert(
        {"query": "penguins", "group": "segment", "filters": only}, SearchRequest
    )
    (hit, *_) = client.search(request).hits
    assert hit.start_s <= 8 < hit.end_s <= 12.2
