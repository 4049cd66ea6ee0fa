"""How clearly a leg answers a query, and what that makes of its weight. Pure.

A sentence about baking is nowhere in a video's sounds, but some sound is always the nearest. Such a
leg finds many segments that are all about as near; a leg that knows the answer finds few that
stand out. So a leg counts by how far its best segment stands out from its best ten: an idea of
query performance prediction (Shtok, Kurland and Carmel 2012: the deviation of the top scores).
"""

from collections.abc import Mapping, Sequence

from gateway.schemas import LegName
from gateway.search.calibrate import Match

DEPTH = 10  # matches among which the best one stands out, or does not
FLOOR = 0.003  # of a leg's factor: where no leg stands out, the weights stay as they were

# What a leg's clarity says. Sentences stand out by less than pictures do, even where they are the
# answer; a fused vector stands out for questions that its pictures or sounds alone answer better.
# Chosen on captions of two made-up sets (docs/ranking.md).
TELLING: Mapping[LegName, float] = {
    "visual": 0.6,
    "sound": 0.5,
    "speech": 4.0,
    "keyword": 3.0,
    "fused": 0.4,
}


def clarity(matches: Sequence[Match]) -> float:
    """Return how far a leg's best match is above the mean of its DEPTH best, 0…1.

    Args:
        matches: of one leg, best first; where they are fewer than DEPTH, the rest count as 0.
    """
    best = [match.strength for match in matches[:DEPTH]]
    return best[0] - sum(best) / DEPTH if best else 0.0


def by_clarity(
    weights: Mapping[LegName, float],
    matches: Mapping[LegName, Sequence[Match]],
    doubt: float = 1.0,
) -> dict[LegName, float]:
    """Return the legs' weights times what the squares of their clarities tell; they sum to one.

    The keyword leg counts as no clearer than the sentences: a word that few say makes it stand out,
    whatever the word has to do with the question.

    Args:
        weights: of the legs that answered, at least one.
        matches: what each of them found, best first.
        doubt: the share of the weights that clarity decides; the rest stays as given.
    """
    clear = {leg: clarity(matches.get(leg, ())) for leg in weights}
    if "keyword" in clear and "speech" in clear:
        clear["keyword"] = min(clear["keyword"], clear["speech"])
    raised = {
        leg: weight * (FLOOR + TELLING[leg] * clear[leg] ** 2) for leg, weight in weights.items()
    }
    raised_total, total = sum(raised.values()), sum(weights.values())
    return {
        leg: doubt * raised[leg] / raised_total + (1 - doubt) * weight / total
        for leg, weight in weights.items()
    }
