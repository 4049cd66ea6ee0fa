"""Whether more PIX buys a deeper look at a video."""

from gateway.catalogue.ledger import Deeper
from gateway.settings import Settings
from ingest.budget import base_frames, paid_frames, pays_transcript


def frame_budget(duration_s: float, pix: int, settings: Settings) -> int:
    """Return how many frames of a video are sampled at most, for this PIX."""
    wanted = base_frames(duration_s, settings) + paid_frames(pix, settings)
    return min(settings.max_frames, wanted)


def deeper(settings: Settings) -> Deeper:
    """Return the function that tells whether more PIX means more frames, or words."""

    def bought(duration_s: float, pix: int) -> tuple[int, bool]:
        frames = frame_budget(duration_s, pix, settings)
        return frames, pays_transcript(duration_s, pix, settings)

    def buys_more(duration_s: float, analysed_pix: int, pix: int) -> bool:
        return bought(duration_s, pix) > bought(duration_s, analysed_pix)

    return buys_more
