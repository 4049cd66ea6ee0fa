"""Every error that pixserve raises on purpose, and the HTTP status of each.

PixserveError                   500
├── InvalidRequest              400   the request is wrong; the message says what to change
│   └── CursorRefused           400   a cursor of another query or index, or none at all
├── NotFound                    404   no such video, job, segment or bundle
├── Conflict                    409   a repeated key with other content, a video being deleted
├── TooLarge                    413   a body, file, image or text over its named limit
├── MediaRefused                422   a file that cannot be decoded; `reason` names the kind
│   └── MediaLimitExceeded      422   decoding hit a limit of time, memory, pixels or streams
├── Overloaded                  429   a named queue is full
├── Unavailable                 503   a part is not reachable; `part` names it
│   ├── DeadlineExceeded        504   a part answered too late
│   ├── ModelFailed             500   a model runs, but failed on this input: repeating is no use
│   └── Unsupported             501   a part runs, but cannot do this
├── StorageFull                 507   the disk has no room
└── ConfigurationError          500   a setting, model folder or installation is wrong

The messages of these are written for the client. Any other exception is a bug: it is logged, and
the client reads only "internal error" with the request's id.
"""

from typing import ClassVar


class PixserveError(Exception):
    """The base of all errors raised on purpose."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal"

    @property
    def message(self) -> str:
        """What happened and what to do, for the client."""
        return str(self)


class InvalidRequest(PixserveError):  # noqa: N818 (names what happened, as HTTP does)
    """The request is wrong."""

    status = 400
    kind = "invalid_request"


class CursorRefused(InvalidRequest):
    """A cursor is of another query or index, or is none: the search begins anew without it."""

    kind = "cursor_refused"


class NotFound(PixserveError):  # noqa: N818
    """There is no such thing."""

    status = 404
    kind = "not_found"


class Conflict(PixserveError):  # noqa: N818
    """The request contradicts what is stored."""

    status = 409
    kind = "conflict"


class TooLarge(PixserveError):  # noqa: N818
    """Something is over its limit."""

    status = 413
    kind = "too_large"


class MediaRefused(PixserveError):  # noqa: N818
    """A media file cannot be used; `reason` is a short stable word such as `not_media`."""

    status = 422
    kind = "media_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MediaLimitExceeded(MediaRefused):
    """Decoding hit a limit; `reason` names it: cpu_time, memory, pixels, streams, wall_time."""

    kind = "media_limit_exceeded"


class Overloaded(PixserveError):  # noqa: N818
    """A queue is full."""

    status = 429
    kind = "overloaded"


class Unavailable(PixserveError):  # noqa: N818
    """A part of the stack is not reachable; `part` is triton, milvus or catalogue."""

    status = 503
    kind = "unavailable"

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


class DeadlineExceeded(Unavailable):
    """A part answered too late."""

    status = 504
    kind = "deadline_exceeded"


class ModelFailed(Unavailable):
    """A model runs, but failed on this input, and would fail on it again."""

    status = 500
    kind = "model_failed"


class Unsupported(Unavailable):
    """A part runs, but cannot do this."""

    status = 501
    kind = "unsupported"


class StorageFull(PixserveError):  # noqa: N818
    """The disk has no room."""

    status = 507
    kind = "storage_full"


class ConfigurationError(PixserveError):
    """A setting, a model folder or the installation is wrong."""

    kind = "configuration"
