"""Whether more PIX buys a deeper look at a video."""

from gateway.catalogue.ledger import Deeper
from gateway.settings import Settings
from ingest.budget import base_frames, paid_frames


def frame_budget(duration_s: float, pix: int, settings: Settings) -> int:
    """Return how many frames of a video are sampled at most, for this PIX."""
    wanted = base_frames(duration_s, settings) + paid_frames(pix, settings)
    return min(settings.max_frames, wanted)


def deeper(settings: Settings) -> Deeper:
    """Return the function that tells whether more PIX means more sampled frames."""

    def buys_frames(duration_s: float, analysed_pix: int, pix: int) -> bool:
        then = frame_budget(duration_s, analysed_pix, settings)
        return frame_budget(duration_s, pix, settings) > then

    return buys_frames
