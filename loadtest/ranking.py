"""What legs found to a ranking, under any rules: through the search's own functions. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gateway.schemas import FusionRule, LegName, LegWeights, Mode
from gateway.search.calibrate import calibrate
from gateway.search.clarity import by_clarity
from gateway.search.coherence import coherence
from gateway.search.cutoff import cut
from gateway.search.evidence import weigh_evidence
from gateway.search.fuse import fuse, leg_weights
from gateway.search.intent import answerable, doubt
from gateway.search.rerank import PixLaw, Scored, rerank
from gateway.settings import Settings
from loadtest.gathering import Gathered

DEFAULTS = Settings()


@dataclass(frozen=True)
class Rules:
    """What may differ between two rankings of the same candidates; by default a search's own."""

    leg: LegName | None = None  # this one alone
    fusion: FusionRule = "weighted"
    clarity: bool = True
    mode: Mode = "auto"
    coherence: float = DEFAULTS.coherence_weight
    pix_weight: float = DEFAULTS.pix_weight
    cutoff: float = 0.0
    pix: Mapping[str, int] = field(default_factory=dict)  # by video id; 0 of those not in it


def ranked(one: Gathered, rules: Rules) -> tuple[Scored, ...]:
    """Return the segments that were found, best first, as a search with these rules has them."""
    matches = calibrate(one.found.candidates, one.found.bands, one.found.judged)
    matches = weigh_evidence(matches, one.text)
    running: Collection[LegName] = one.found.candidates
    only = None if rules.leg is None else LegWeights(**{rules.leg: 1.0})
    if rules.leg is not None and rules.leg not in running:
        return ()
    intents = answerable(one.intents if rules.mode == "auto" else {}, running)
    weights = leg_weights(running, rules.mode, only, intents=intents)
    if rules.clarity and only is None:
        weights = by_clarity(weights, matches, doubt(intents))
    segments = fuse(matches, weights, rules.fusion)
    lifts = coherence(segments, rules.coherence)
    pix = {segment.video_id: rules.pix.get(segment.video_id, 0) for segment in segments}
    law = PixLaw(rules.pix_weight, DEFAULTS.pix_cap)
    return cut(rerank(segments, lifts, pix, law), rules.cutoff)[0]
