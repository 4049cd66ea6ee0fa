"""What a query's words ask for: a look, a motion, a sound, speech or several of them. Pure.

Query intent classification: the reading is a linear one of the query's sentence embedding, which
the speech leg needs anyway. `export/intents.py` fits it.
"""

from collections.abc import Mapping

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import INTENTS, Intent, IntentModel
from gateway.schemas import SearchRequest
from gateway.search.query import Query

Intents = Mapping[Intent, float]  # how probable each is; {}: nobody knows

UNSURE = 0.05  # of every reading: a query may always mean more than it seems to


def intents_of(
    request: SearchRequest, query: Query, model: IntentModel | None, sentence: FloatArray | None
) -> Intents:
    """Return what a search's words ask for.

    Args:
        request: as it came.
        query: what it asks for.
        model: of the bundle that made the embedding; None: it has none.
        sentence: the embedding of the query's words, (sentence,); None: it is not there.

    Returns:
        {} where a mode or weights are given, where there is more than words, and where nothing can
        be read.
    """
    is_weighed = request.mode != "auto" or request.weights is not None
    if is_weighed or not query.words_alone or model is None or sentence is None:
        return {}
    return read_intents(model, sentence)


def read_intents(model: IntentModel, sentence: FloatArray) -> Intents:
    """Return how probable each intent is, by the words' embedding; they sum to one."""
    weights = np.frombuffer(model.weights, np.float32).reshape(-1, len(INTENTS))
    logits = sentence @ weights + np.array(model.biases)  # (intents,)
    likely = np.exp(logits - logits.max())
    read = (1 - UNSURE) * likely / likely.sum()
    read[INTENTS.index("several")] += UNSURE
    return dict(zip(INTENTS, map(float, read), strict=True))


def doubt(intents: Intents) -> float:
    """Return how far it is from sure that the query asks for one thing alone, 0…1."""
    return 1 - max((share for name, share in intents.items() if name != "several"), default=0.0)
