"""What a query's words ask for: a look, a motion, a sound, speech or several of them. Pure.

Query intent classification: the reading is a linear one of the query's sentence embedding, which
the speech leg needs anyway. `export/intents.py` fits it.
"""

from collections.abc import Collection, Mapping

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Intent, IntentModel
from gateway.schemas import LegName, SearchRequest
from gateway.search.query import Query

Intents = Mapping[Intent, float]  # how probable each is; {}: nobody knows

# Without any of these an intent has nothing to be answered by.
ANSWERING: Mapping[Intent, frozenset[LegName]] = {
    "look": frozenset({"visual", "fused"}),
    "motion": frozenset({"visual", "fused"}),
    "sound": frozenset({"sound"}),
    "speech": frozenset({"speech", "keyword"}),
}
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
    weights = np.frombuffer(model.weights, np.float32).reshape(-1, len(model.names))
    logits = sentence @ weights + np.array(model.biases)  # (intents,)
    likely = np.exp(logits - logits.max())
    read = dict(zip(model.names, map(float, (1 - UNSURE) * likely / likely.sum()), strict=True))
    return read | {"several": read["several"] + UNSURE}


def answerable(intents: Intents, running: Collection[LegName]) -> Intents:
    """Return the intents with those that no running leg answers counted as `several`."""
    if not intents:
        return intents
    lost = [name for name, legs in ANSWERING.items() if legs.isdisjoint(running)]
    several = intents["several"] + sum(intents[name] for name in lost)
    return {**intents, **dict.fromkeys(lost, 0.0), "several": several}


def doubt(intents: Intents) -> float:
    """Return how far it is from sure that the query asks for one thing alone, 0…1."""
    return 1 - max((share for name, share in intents.items() if name != "several"), default=0.0)
