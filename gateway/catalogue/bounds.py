"""What the catalogue alone knows of the videos that a search may find. Pure."""

import msgspec
from sqlalchemy.sql.elements import ColumnElement

from gateway.catalogue import tables

_videos = tables.videos.c


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The PIX and the time of upload that videos must have; times as the catalogue writes them."""

    min_pix: int = 0
    created_from: str = ""  # then or later; "": whenever
    created_until: str = ""  # earlier than this; "": whenever

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """Return what a row of `videos` must meet; all bounds are bound parameters."""
        told = (
            (self.min_pix > 0, _videos.pix >= self.min_pix),
            (self.created_from, _videos.created_at >= self.created_from),
            (self.created_until, _videos.created_at < self.created_until),
        )
        return tuple(condition for given, condition in told if given)


ANY = Bounds()
