"""The mini CLIP's tokenizer: byte-level BPE over the corpus's captions (Sennrich et al. 2016)."""

from collections.abc import Iterator
from functools import cache
from random import Random

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from export.profile_rows import OWN_WEIGHTS, TOKENIZER
from training.corpus import training_batch
from training.world.captions import KINDS, captions

START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 1200
SEED = 0  # one tokenizer for all seeds of the weights
SEGMENTS = 4_000  # whose captions it is trained on


@cache
def mini_tokenizer() -> Tokenizer:
    """Return the mini CLIP's tokenizer, as the package has it."""
    return Tokenizer.from_file(str(OWN_WEIGHTS / TOKENIZER))


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of bytes between a start and an end token: a stand-in for any other."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, START, END])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    put_marks(tokenizer)
    return tokenizer


def train_tokenizer() -> Tokenizer:
    """Train the tokenizer, the same every time; what it does not know it encodes as bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    put_marks(tokenizer)
    return tokenizer


def put_marks(tokenizer: Tokenizer) -> None:
    """Have a tokenizer put every text between a start and an end token, of which it knows both."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in (START, END)],
    )


def _texts() -> Iterator[str]:
    rng = Random(SEED)  # noqa: S311 - reproducible on purpose
    for segment in training_batch(SEED, 0, SEGMENTS):
        for kind in KINDS:
            yield captions(segment, kind, rng)


if __name__ == "__main__":
    OWN_WEIGHTS.mkdir(exist_ok=True)
    train_tokenizer().save(str(OWN_WEIGHTS / TOKENIZER))
