"""Transcripts: subtitle files and subtitle tracks to cues, and cues to the text of each segment.

Cues are read, cleaned of markup, ordered and kept inside the video. Searching works best on whole
sentences, so the words are put together again over the cues that carry them: a sentence ends with
a full stop, a pause or after MAX_SENTENCE_S. A cue with several sentences is shared among them by
their length. Each sentence belongs to the one segment that most of it is said in.
"""

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import msgspec
import pysubs2
from charset_normalizer import from_bytes

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.errors import InvalidRequest
from ingest.calls import Result, Source
from ingest.container import (
    SOUND_CONTAINERS,
    codec_name,
    open_media,
    start_s,
    subtitle_streams,
)
from ingest.media import MediaInfo
from ingest.probe import PROBE_LIMITS, file_limits
from ingest.sandbox import run_limited

MAX_TRANSCRIPT_BYTES = 16 * 1024**2
MAX_CUES = 100_000
MAX_CUE_CHARS = 2_000  # of one cue; what comes after is left out
MAX_SENTENCE_S = 10.0  # a sentence that goes on longer is parted between two cues
PAUSE_S = 1.0  # of silence that ends a sentence without a full stop

USUAL = "cp1252"  # the encoding of most subtitles that are not in Unicode …
USUAL_CHAOS = 0.05  # … taken where it is nearly as plausible as the best one
ROLLING_S = 0.1  # between cues where the second may repeat the first one's last line

# Hours may be missing; SubRip has a comma, WebVTT a full stop before the milliseconds.
_TIME = r"(?:\d+:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
_TIMING = re.compile(rf"\s*({_TIME})\s*-->\s*({_TIME})(?:\s.*)?$")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
# Latin, ideographic and full-width marks; closing quotes and brackets may follow them.
_WIDE_STOPS = "\u3002\uff01\uff1f"
_STOPS = rf"[.!?\u2026{_WIDE_STOPS}][\"'\u201d\u2019)\]]*"
_SENTENCE = re.compile(rf".*?(?:{_STOPS}(?:\s+|$)|[{_WIDE_STOPS}]|$)", re.DOTALL)
ENDS_SENTENCE = re.compile(rf"{_STOPS}$")


@dataclass(frozen=True)
class Cue:
    """Words and when they are said, in seconds on the player's clock."""

    start_s: float
    end_s: float
    text: str


class SubtitlesWanted(msgspec.Struct, frozen=True):
    """The arguments of `read_subtitles`."""

    stream_index: int


def read_sidecar(data: bytes, name: str) -> tuple[Cue, ...]:
    """Read a subtitle file.

    Args:
        data: SubRip or WebVTT in any common encoding.
        name: the file's name, for messages; its suffix `.vtt` or the data's head tell WebVTT.

    Returns:
        Cues in order; empty where the file has none.

    Raises:
        InvalidRequest: it is neither, or is broken; the message names the line.
    """
    shown = PurePath(name).name
    if len(data) > MAX_TRANSCRIPT_BYTES:
        message = f"{shown} has {len(data)} bytes, {MAX_TRANSCRIPT_BYTES} are allowed"
        raise InvalidRequest(message)
    text = _decode(data, shown)
    _check_lines(text, shown)
    is_vtt = text.startswith("WEBVTT") or shown.lower().endswith(".vtt")
    try:
        parsed = pysubs2.SSAFile.from_string(text, format_="vtt" if is_vtt else "srt")
    except (pysubs2.Pysubs2Error, ValueError) as error:
        raise InvalidRequest(f"{shown} is not a subtitle file: {error}") from error
    if len(parsed) > MAX_CUES:
        raise InvalidRequest(f"{shown} has {len(parsed)} cues, {MAX_CUES} are allowed")
    return clean(Cue(event.start / 1000, event.end / 1000, event.text) for event in parsed)


def read_embedded(path: Path, info: MediaInfo, language: str | None) -> tuple[Cue, ...]:
    """Read a video's subtitle track: the one in this language, else the first; in the sandbox.

    Returns:
        Cues in order; empty where there is no track.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be read within its limits.
    """
    if not info.subtitles:
        return ()
    fitting = (t for t in info.subtitles if language and _same_language(t.language, language))
    track = next(fitting, info.subtitles[0])
    limits = file_limits(path, PROBE_LIMITS)
    reply = run_limited("read_subtitles", path, SubtitlesWanted(track.stream_index), limits)
    return clean(reply.value_as(tuple[Cue, ...]))


def segment_texts(
    cues: Sequence[Cue], spans_s: Sequence[tuple[float, float]], duration_s: float
) -> tuple[str, ...]:
    """Return what is said in each segment.

    Args:
        cues: in order.
        spans_s: (segments,) start and end of each, contiguous and ascending.
        duration_s: of the video; what a transcript says after it is left out.

    Returns:
        (segments,) the sentences most of whose time lies in the segment, "" where there are none.
    """
    said: list[list[str]] = [[] for _ in spans_s]
    ends_s = [end_s for _, end_s in spans_s]
    for sentence in sentences(within(cues, duration_s)):
        first = bisect_right(ends_s, sentence.start_s)
        last = bisect_left(ends_s, sentence.end_s)
        candidates = range(min(first, len(spans_s) - 1), min(last, len(spans_s) - 1) + 1)
        owner = max(candidates, key=lambda i: _overlap_s(sentence, spans_s[i]))
        said[owner].append(sentence.text)
    return tuple(_shortened(" ".join(texts)) for texts in said)


def _shortened(text: str) -> str:
    """Return as much of a text as an encoder takes."""
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").rstrip()


# ---- pure: cues ---------------------------------------------------------------------------------


def clean(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """Put cues in order, without markup, empty ones and the repetitions of rolling captions."""
    kept: list[Cue] = []
    rolled = ""
    for cue in sorted(cues, key=lambda cue: (cue.start_s, cue.end_s)):
        plain = html.unescape(_TAG.sub("", cue.text[:MAX_CUE_CHARS].replace("\\N", "\n")))
        plain = plain.replace("\0", "")  # which PostgreSQL does not store
        lines = [" ".join(line.split()) for line in plain.splitlines()]
        follows = bool(kept) and cue.start_s - kept[-1].end_s <= ROLLING_S
        new = [line for line in lines if line and not (follows and line == rolled)]
        if new and cue.end_s > cue.start_s:
            kept.append(Cue(cue.start_s, cue.end_s, " ".join(new)))
        rolled = next((line for line in reversed(lines) if line), rolled)
    return tuple(kept)


def within(cues: Iterable[Cue], duration_s: float) -> Iterator[Cue]:
    """Yield the cues that a video has time for, ended where it ends."""
    for cue in cues:
        start_s, end_s = max(0.0, cue.start_s), min(cue.end_s, duration_s)
        if start_s < end_s:
            yield Cue(start_s, end_s, cue.text)


def sentences(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Yield whole sentences with their times, put together from the cues that carry them."""
    current: Cue | None = None
    for part in _parts(cues):
        if current is not None and (
            ENDS_SENTENCE.search(current.text)
            or part.start_s - current.end_s > PAUSE_S
            or part.end_s - current.start_s > MAX_SENTENCE_S
        ):
            yield current
            current = None
        if current is None:
            current = part
        else:
            text = f"{current.text} {part.text}"
            current = Cue(current.start_s, max(current.end_s, part.end_s), text)
    if current is not None:
        yield current


def _parts(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Yield each cue's sentences; they share its time by their length in characters."""
    for cue in cues:
        texts = [text for text in _SENTENCE.findall(cue.text) if text.strip()]
        s_per_char = (cue.end_s - cue.start_s) / max(1, sum(map(len, texts)))
        start_s = cue.start_s
        for text in texts:
            end_s = start_s + len(text) * s_per_char
            yield Cue(start_s, end_s, text.strip())
            start_s = end_s


def _overlap_s(cue: Cue, span_s: tuple[float, float]) -> float:
    return min(cue.end_s, span_s[1]) - max(cue.start_s, span_s[0])


# ---- pure: subtitle files -----------------------------------------------------------------------


def _decode(data: bytes, shown: str) -> str:
    """Return the text of a subtitle file in whichever encoding it is."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        found = from_bytes(data)
    best = found.best()
    if best is None:
        raise InvalidRequest(f"{shown} is not text: send SubRip or WebVTT, best in UTF-8")
    usual = (m for m in found if m.encoding == USUAL and m.chaos <= best.chaos + USUAL_CHAOS)
    return str(next(usual, best))


def _check_lines(text: str, shown: str) -> None:
    """Refuse a file without a cue, or with a line of times that cannot be read."""
    timings = 0
    for number, line in enumerate(text.splitlines(), 1):
        if "-->" not in line or line.startswith("NOTE"):
            continue
        match = _TIMING.match(line)
        if match is None:
            problem = "is no line of times such as 00:00:01,000 --> 00:00:02,500"
            raise InvalidRequest(f"{shown}, line {number}: {line.strip()[:80]!r} {problem}")
        if _seconds(match[2]) < _seconds(match[1]):
            raise InvalidRequest(f"{shown}, line {number}: the cue ends before it starts")
        timings += 1
    if timings == 0 and not text.startswith("WEBVTT"):
        raise InvalidRequest(f"{shown}, line 1: there is no cue; send SubRip or WebVTT")


def _seconds(time: str) -> float:
    """Return the seconds of a time such as 01:02:03,456."""
    total = 0.0
    for part in time.replace(",", ".").split(":"):
        total = total * 60 + float(part)
    return total


def _same_language(ours: str | None, wanted: str) -> bool:
    """Compare an ISO 639-2 code of a track (`eng`) with a language tag (`en-GB`) by its start."""
    return bool(ours) and str(ours).lower()[:2] == wanted.lower()[:2]


# ---- inside the sandbox -------------------------------------------------------------------------


def subtitles_inside(source: Source, arguments: bytes) -> Result:
    """Read the cues of one subtitle track: `read_embedded`."""
    wanted = msgspec.msgpack.decode(arguments, type=SubtitlesWanted)
    cues: list[Cue] = []
    with open_media(source, SOUND_CONTAINERS) as container:
        stream = next(s for s in subtitle_streams(container) if s.index == wanted.stream_index)
        codec, offset_s = codec_name(stream), start_s(container)
        for packet in container.demux(stream):
            if not packet.size or packet.pts is None or len(cues) == MAX_CUES:
                continue
            begin_s = float(packet.pts * packet.time_base) - offset_s
            end_s = begin_s + float((packet.duration or 0) * packet.time_base)
            cues.append(Cue(begin_s, end_s, packet_text(bytes(packet), codec)))
    return Result(cues)


def packet_text(data: bytes, codec: str) -> str:
    """Return the words of a packet of a subtitle track.

    MP4's text begins with its length in two bytes and may end with styles; a line of ASS has
    eight fields before its text.
    """
    if codec == "mov_text":
        data = data[2 : 2 + int.from_bytes(data[:2], "big")]
    text = data.decode("utf-8", errors="replace")
    if codec == "ass":
        text = text.split(",", 8)[-1]
    return text[:MAX_CUE_CHARS]
