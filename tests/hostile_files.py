"""Files that a stranger might upload to break things: seeded, the same bytes for the same seed.

Each kind spoils in its own way: whole files that are cut, flipped or spliced; heads that promise
what is not there; thousands of streams; ten hours of nothing; archives and playlists under the name
of a video, and media that name other files and addresses.
"""

import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import av

from tests.media import make_sound, make_video

MANY_STREAMS = 2_000
NOTHING_S = 36_000  # ten hours
HUGE = 0x7FFF_FFF0
SIGNATURES = {
    ".mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2",
    ".mkv": bytes.fromhex("1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b61"),
    ".wav": b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00",
    ".ogg": b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis",
    ".flac": b"fLaC\x00\x00\x00\x22",
    ".mp3": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
    ".m4a": b"\xff\xf1\x50\x80",
}


Bases = tuple[Path, ...]


@dataclass(frozen=True)
class Lures:
    """What hostile files point at: nobody may come there."""

    secret: Path
    url: str


@dataclass(frozen=True)
class Hostile:
    """One file."""

    kind: str
    path: Path


def hostile_files(folder: Path, count: int, seed: int, lures: Lures) -> Iterator[Hostile]:
    """Write so many files, kind after kind in turn, and yield each as it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    bases = _bases(folder / "bases")
    for number, (kind, make) in enumerate(islice(cycle(KINDS.items()), count)):
        generator = random.Random(f"{seed} {number}")
        suffix, data = make(generator, bases, lures)
        path = folder / f"{number:04d}-{kind.replace(' ', '-')}{suffix}"
        path.write_bytes(data)
        yield Hostile(kind, path)


def _bases(folder: Path) -> Bases:
    """Return whole small files of every container, made where they are not there yet."""
    folder.mkdir(exist_ok=True)
    small = {"duration_s": 2.0, "size": (96, 64)}
    recipes: dict[str, Callable[[Path], Path]] = {
        "a.mp4": lambda path: make_video(path, **small, options={"bf": "2"}),
        "b.mov": lambda path: make_video(path, **small, video_codec="libx265"),
        "c.mkv": lambda path: make_video(path, **small, video_codec="mpeg4", audio_codec="flac"),
        "d.webm": lambda path: make_video(
            path, **small, video_codec="libvpx-vp9", audio_codec="libopus"
        ),
        "e.m4a": lambda path: make_sound(path, duration_s=3),
        "f.ogg": lambda path: make_sound(path, duration_s=3, audio_codec="libopus"),
    }
    paths = tuple(folder / name for name in recipes)
    for path, make in zip(paths, recipes.values(), strict=True):
        if not path.is_file():
            make(path)
    return paths


Make = Callable[[random.Random, Bases, Lures], tuple[str, bytes]]


# ---- spoilt files -------------------------------------------------------------------------------


def _truncated(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    base = generator.choice(bases)
    data = base.read_bytes()
    return base.suffix, data[: generator.randrange(1, len(data))]


def _flipped(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    base = generator.choice(bases)
    data = bytearray(base.read_bytes())
    for _bit in range(generator.choice((1, 8, 64, 512))):
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return base.suffix, bytes(data)


def _flipped_head(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Spoil what says how the rest is to be read: the index of an MP4, the head of the others."""
    base = generator.choice(bases)
    data = bytearray(base.read_bytes())
    begin = max(0, data.find(b"moov"))
    end = min(len(data), begin + 1_500)
    for _byte in range(generator.choice((1, 4, 16))):
        data[generator.randrange(begin, end)] = generator.choice((0, 0x7F, 0x80, 0xFF))
    return base.suffix, bytes(data)


def _spliced(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Put pieces of one file into another."""
    one, other = generator.sample(bases, 2)
    data, piece = bytearray(one.read_bytes()), other.read_bytes()
    for _piece in range(generator.randrange(1, 6)):
        at, size = generator.randrange(len(data)), generator.randrange(1, 4_000)
        start = generator.randrange(len(piece))
        data[at : at + size] = piece[start : start + size]
    return one.suffix, bytes(data)


# ---- heads that promise ------------------------------------------------------------------------


def _noise_after_signature(generator: random.Random, _bases: Bases, _: Lures) -> tuple[str, bytes]:
    suffix = generator.choice(sorted(SIGNATURES))
    return suffix, SIGNATURES[suffix] + generator.randbytes(generator.randrange(1, 60_000))


def _huge_counts(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Let tables of an MP4's index claim up to two thousand million entries."""
    data = bytearray(bases[0].read_bytes())
    tables = (b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"stss", b"elst")
    for name in generator.sample(tables, generator.randrange(1, 4)):
        at = data.find(name)
        if at >= 0:
            skipped = 12 if name == b"stsz" else 8  # version, flags, and stsz's common size
            struct.pack_into(">I", data, at + skipped, generator.choice((HUGE, 0xFFFF_FFFF, 10**8)))
    return ".mp4", bytes(data)


def _huge_boxes(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Let boxes claim sizes that the file has not, or hold each other very deeply."""
    if generator.random() < 0.5:
        depth = generator.randrange(100, 20_000)
        boxes = b"".join(struct.pack(">I4s", 8 * (depth - i), b"moov") for i in range(depth))
        return ".mp4", SIGNATURES[".mp4"] + boxes
    data = bytearray(bases[0].read_bytes())
    at = data.find(generator.choice((b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"avcC")))
    struct.pack_into(">I", data, at - 4, generator.choice((0, 1, 7, HUGE, 0xFFFF_FFFF)))
    return ".mp4", bytes(data)


def _huge_picture(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Let a picture claim to be of 65,535 × 65,535 pixels, in its sample entry and its track."""
    data = bytearray(bases[0].read_bytes())
    at = data.find(b"avc1") + 4 + 24  # reserved, reference and predefined come before the size
    struct.pack_into(">HH", data, at, 0xFFFF, generator.choice((1, 0xFFFF)))
    return ".mp4", bytes(data)


def _many_streams(generator: random.Random, bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Repeat a track of an MP4 a few thousand times."""
    data = bases[0].read_bytes()
    index, track = data.find(b"moov") - 4, data.find(b"trak") - 4
    size = struct.unpack_from(">I", data, track)[0]
    tracks = data[track : track + size] * generator.randrange(MANY_STREAMS, 2 * MANY_STREAMS)
    return ".mp4", data[:index] + _box(b"moov", data[index + 8 : track] + tracks)


def _ten_hours(generator: random.Random, _bases: Bases, _: Lures) -> tuple[str, bytes]:
    """Ten hours of black in few frames, or of silence in a head that promises it."""
    if generator.random() < 0.3:
        size = NOTHING_S * 16_000
        head = b"RIFF" + struct.pack("<I", size + 36) + b"WAVEfmt " + struct.pack("<I", 16)
        head += struct.pack("<HHIIHH", 1, 1, 8_000, 16_000, 2, 16) + b"data"
        return ".wav", head + struct.pack("<I", size) + bytes(generator.randrange(200_000))
    buffer = io.BytesIO()
    every_s = generator.choice((60, 600, NOTHING_S - 1))
    kind = generator.choice(("mp4", "matroska"))
    with av.open(buffer, "w", format=kind, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for at_s in range(0, NOTHING_S, every_s):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = at_s
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return ".mp4", buffer.getvalue()


# ---- what is no media, or names other files -----------------------------------------------------


def _archive(generator: random.Random, _bases: Bases, _: Lures) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    if generator.random() < 0.5:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(10_000_000))
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            entry = tarfile.TarInfo("../../escape")
            entry.size = 1_000
            archive.addfile(entry, io.BytesIO(generator.randbytes(1_000)))
    return ".mp4", buffer.getvalue()


def _playlist(generator: random.Random, _bases: Bases, lures: Lures) -> tuple[str, bytes]:
    target = generator.choice((str(lures.secret), f"file://{lures.secret}", lures.url))
    texts = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{target}\n"
        "m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        f'<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>',
        f"[Reference]\nRef1={target}\n",
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
        f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n',
    )
    return generator.choice((".mp4", ".m3u8", ".mkv")), generator.choice(texts).encode()


def _reference(generator: random.Random, bases: Bases, lures: Lures) -> tuple[str, bytes]:
    """An MP4 whose samples are said to lie in another file, or whose whole is said to."""
    target = generator.choice((str(lures.secret), lures.url)).encode() + b"\0"
    if generator.random() < 0.5:
        address = _box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(target)) + target)
        return ".mov", SIGNATURES[".mp4"] + _box(b"moov", _box(b"rmra", _box(b"rmda", address)))
    data = bases[0].read_bytes()
    elsewhere = _box(b"url ", bytes(4) + target)
    at = data.find(b"url ") - 4  # the only entry of the box dref
    grown = len(elsewhere) - 12
    spoilt = bytearray(data[:at] + elsewhere + data[at + 12 :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = spoilt.rfind(name, 0, at) - 4
        struct.pack_into(">I", spoilt, start, struct.unpack_from(">I", spoilt, start)[0] + grown)
    return ".mp4", bytes(spoilt)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


KINDS: dict[str, Make] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "head flipped": _flipped_head,
    "spliced": _spliced,
    "noise after a signature": _noise_after_signature,
    "huge counts": _huge_counts,
    "huge boxes": _huge_boxes,
    "huge picture": _huge_picture,
    "thousands of streams": _many_streams,
    "ten hours of nothing": _ten_hours,
    "archive": _archive,
    "playlist": _playlist,
    "reference to elsewhere": _reference,
}
