"""What reads off a query's sentence embedding what the query asks for: fitted at each export.

A linear classifier (multinomial logistic regression) over the sentence encoder's own embeddings of
questions whose meaning is known: captions of made-up segments, none of them with a combination
that the evaluation holds out, and queries that were written by hand.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch

from ensembles.arrays import FloatArray
from ensembles.bundle import INTENTS, Intent, IntentModel
from export.intent_examples import EXAMPLES, THINGS, WORDINGS
from export.profile_rows import Profile
from export.sentences import embed_sentences
from training.corpus import training_batch
from training.world.captions import Kind, describe
from training.world.words import OPENINGS

SEED = 4  # of the captions
SEGMENTS = 600
WORDINGS_EACH = 3  # of a thing, for each intent
L2 = 1e-5  # of the squared weights, beside the mean cross-entropy
MAX_STEPS = 500
MEANT: Mapping[Kind, Intent] = {
    "object": "look",
    "colour": "look",
    "motion": "motion",
    "sound": "sound",
    "speech": "speech",
    "mixed": "several",
}

Question = tuple[str, Intent]


def intent_model(profile: Profile, staging: Path) -> IntentModel:
    """Fit the classifier of a profile's queries.

    Args:
        profile: with a trained sentence encoder.
        staging: folder of the exported models.
    """
    sets = [captioned_questions(), written_questions()]
    asked = [profile.sentence.query_prefix + text for questions in sets for text, _ in questions]
    embeddings = embed_sentences(profile, staging, asked)
    meant = [INTENTS.index(intent) for questions in sets for _, intent in questions]
    shares = np.concatenate([np.full(len(questions), 0.5 / len(questions)) for questions in sets])
    weights, biases = fit_classifier(embeddings, meant, shares.astype(np.float32))
    return IntentModel(INTENTS, weights.tobytes(), tuple(map(float, biases)))


def captioned_questions() -> list[Question]:
    """Return captions of made-up segments, each with what it asks for."""
    rng = Random(SEED)  # noqa: S311 - reproducible on purpose
    described = (
        describe(segment, kind, rng)
        for segment in training_batch(SEED, 0, SEGMENTS)
        for kind in MEANT
    )
    return [(caption.text, MEANT[caption.kind]) for caption in described if caption]


def written_questions() -> list[Question]:
    """Return the queries that were written by hand, each with what it asks for.

    Half of the examples begin as people begin who speak to a search; of each thing there are some
    wordings for every intent.
    """
    rng = Random(SEED)  # noqa: S311 - reproducible on purpose
    examples = [
        (rng.choice(OPENINGS) + text, intent)
        for intent, texts in EXAMPLES.items()
        for text in texts
    ]
    reworded = [
        (wording.format(thing), intent)
        for thing in THINGS
        for intent, wordings in WORDINGS.items()
        for wording in rng.sample(wordings, WORDINGS_EACH)
    ]
    return examples + reworded


def fit_classifier(
    embeddings: FloatArray, meant: Sequence[int], shares: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the weights (width, intents) and biases (intents,) of a softmax classifier.

    Args:
        embeddings: (n, width).
        meant: (n,), the index of the right intent.
        shares: (n,), how much each counts; they sum to one.
    """
    x, y, counts = torch.from_numpy(embeddings), torch.tensor(meant), torch.from_numpy(shares)
    weights = torch.zeros(embeddings.shape[1], len(INTENTS), requires_grad=True)
    biases = torch.zeros(len(INTENTS), requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weights, biases], max_iter=MAX_STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        errors = torch.nn.functional.cross_entropy(x @ weights + biases, y, reduction="none")
        total = (errors * counts).sum() + L2 * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), biases.detach().numpy()
