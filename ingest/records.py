"""What an analysis becomes: rows of the index, records of the catalogue. Pure."""

from collections.abc import Iterable, Iterator

from gateway.catalogue.analyses import (
    Findings,
    Modalities,
    SceneRecord,
    SegmentRecord,
    VideoRecord,
)
from gateway.index.rows import IndexRow
from gateway.schemas import Modality
from ingest.gathering import SegmentRow
from ingest.pipeline import Analysis
from ingest.transcripts.said import Said


def index_rows(record: VideoRecord, analysis: Analysis) -> list[IndexRow]:
    """Return one row of the index a segment, with the video's metadata copied into each."""
    return [_index_row(record, analysis, segment) for segment in analysis.segments]


def findings(record: VideoRecord, analysis: Analysis, model_version: str) -> Findings:
    """Return what the catalogue keeps of an analysis.

    Args:
        record: the video as it was when the analysis began; its PIX is what was analysed with.
        analysis: what was found.
        model_version: the id of the bundle that embedded it.
    """
    return Findings(
        scenes=[SceneRecord(s.start_s, s.end_s, s.motion) for s in analysis.scenes],
        segments=list(_segment_records(analysis)),
        modalities=_modalities(analysis),
        model_version=model_version,
        pix=record.pix,
        revision=record.revision,
    )


def _index_row(record: VideoRecord, analysis: Analysis, segment: SegmentRow) -> IndexRow:
    return IndexRow(
        segment_id=segment.segment_id,
        video_id=record.id,
        creator_id=record.creator_id,
        title=record.title,
        category=record.category,
        language=record.language,
        tags=record.tags,
        duration_s=analysis.info.duration_s,
        text=segment.text,
        visual=segment.visual,
        speech=segment.speech,
        sound=segment.sound,
        fused=segment.fused,
    )


def _segment_records(analysis: Analysis) -> Iterator[SegmentRecord]:
    for row in analysis.segments:
        yield SegmentRecord(
            id=row.segment_id,
            index=row.index,
            scene_index=row.scene_index,
            start_s=row.start_s,
            end_s=row.end_s,
            text=row.text,
            motion=row.motion,
            frames=row.frames,
        )


def _modalities(analysis: Analysis) -> Modalities:
    """Tell what of a video is searchable now."""
    rows = analysis.segments
    return Modalities(
        visual=_modality(any(row.visual is not None for row in rows)),
        audio=_modality(any(row.sound is not None for row in rows)),
        transcript=transcript(analysis.said, [row.text for row in rows]),
    )


def transcript(said: Said, texts: Iterable[str]) -> Modality:
    """Tell how far the transcript of a video is.

    Args:
        said: what is known of it.
        texts: what its segments have of that.
    """
    told = _modality(any(texts), said.problem)
    if said.is_awaited and told.state == "absent":
        return Modality(percent=0, state="pending")
    return told


def _modality(is_there: bool, problem: str | None = None) -> Modality:
    if is_there:
        return Modality(percent=100, state="ready")
    return Modality(percent=0, state="absent", reason=problem)
