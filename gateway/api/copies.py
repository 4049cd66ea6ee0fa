"""The index's copies of a video's metadata, brought up to date after a change."""

from gateway.doors import Doors
from gateway.index.rows import VideoFields
from gateway.serving import kept_bundles

UPDATE_S = 5.0  # for all segments of one video, in one version of the index


async def copy_metadata(doors: Doors, video_id: str) -> None:
    """Write a video's title, category, tags and language to all its rows in the index.

    Raises:
        NotFound: there is no such video.
        Unavailable: Milvus does not answer; the video stays noted as outdated.
    """
    analyses = doors.catalogue.analyses
    record = await doors.threads.call(analyses.record, video_id)
    fields = VideoFields(
        title=record.title,
        category=record.category,
        language=record.language,
        tags=record.tags,
    )
    await doors.milvus.update_video(doors.bundle, video_id, fields, timeout_s=UPDATE_S)
    await _copy_to_others(doors, video_id, fields)
    if not await doors.threads.call(analyses.mark_indexed, video_id, record.revision):
        # Deleted meanwhile: the rows just written may have come after its deletion.
        await doors.milvus.inventory.erase_video(video_id, timeout_s=UPDATE_S)


async def _copy_to_others(doors: Doors, video_id: str, fields: VideoFields) -> None:
    """Write them to the versions beside the current one too, so that a switch finds them there."""
    kept = await doors.threads.call(doors.catalogue.versions.kept)
    if not kept:
        return
    for bundle in await doors.disk.call(kept_bundles, doors.settings, kept):
        await doors.milvus.ensure_collections(bundle, timeout_s=UPDATE_S)
        await doors.milvus.update_video(bundle, video_id, fields, timeout_s=UPDATE_S)
