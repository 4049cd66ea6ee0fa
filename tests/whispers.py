"""A tiny Whisper that says the same few words whatever it hears, and a voice that says nothing.

Its weights are random but for the decoder's positions: each is so near the embedding of the token
that is to come next that the model writes SCRIPT for every 30 s of speech. It is converted by
ctranslate2's own converter, so that all else is as with a published checkpoint.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import torch
from av.video.stream import VideoStream
from ctranslate2.converters import TransformersConverter
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES as TO_LANGUAGE

from deploy.demo.muxing import Encodable, sound_blocks, write_interleaved
from ensembles.arrays import FloatArray

TEXT_TOKENS = 50_257  # then end, start, 99 languages, six marks, and the times
LANGUAGES = tuple(TO_LANGUAGE)[:99]
TIMES = 1_501  # 0.00 s … 30.00 s
SPACE = "\u0120"  # as tokens of bytes write it
WIDTH = 64
SURENESS = 5.0  # of each token: what the last layer's output is multiplied by
SPOKEN = " Knead the dough. Tune it."
LANGUAGE = "en"
RATE_HZ = 16_000
SOUND_BLOCK = 1_024  # samples handed to the encoder at a time
FPS = 5
PICTURED = (".mp4", ".mkv")
VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))


def make_whisper(folder: Path, *, seed: int = 0) -> Path:
    """Write a converted model: config.json, model.bin, tokenizer.json, vocabulary.json."""
    checkpoint = folder / "checkpoint"
    tokenizer = _tokenizer()
    model = _model(tokenizer, seed)
    model.save_pretrained(checkpoint)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(checkpoint)
    converter = TransformersConverter(str(checkpoint), copy_files=["tokenizer.json"])
    return Path(converter.convert(str(folder / "whisper"), quantization="int8"))


def _tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    begins = [f"{SPACE}{letter}" for letter in letters]  # of words
    fillers = [f"filler{number}" for number in range(TEXT_TOKENS - 2 * len(letters) - 1)]
    # The empty token says that the model knows many languages.
    words = [*letters, *begins, *fillers, ""]
    vocabulary = {token: number for number, token in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [(SPACE, letter) for letter in letters]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    names = ["endoftext", "startoftranscript", *LANGUAGES, *marks]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return tokenizer


def _script(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that follow each other: two sentences of two seconds each."""
    times = {at: tokenizer.get_vocab_size() + round(at / 0.02) for at in (0.0, 2.0, 4.0)}
    first, second = (tokenizer.encode(text).ids for text in (" Knead the dough.", " Tune it."))
    mark = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("transcribe", "endoftext")}
    language = tokenizer.token_to_id(f"<|{LANGUAGE}|>")
    said = [times[0.0], *first, times[2.0], times[2.0], *second, times[4.0]]
    return [language, mark["transcribe"], *said, mark["endoftext"]]


def _model(tokenizer: Tokenizer, seed: int) -> WhisperForConditionalGeneration:
    torch.manual_seed(seed)
    end, start = (tokenizer.token_to_id(f"<|{n}|>") for n in ("endoftext", "startoftranscript"))
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size() + TIMES,
        d_model=WIDTH,
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 2 * WIDTH for side in ("encoder", "decoder")},
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        embeddings = model.model.decoder.embed_tokens.weight
        embeddings.copy_(torch.nn.functional.normalize(torch.randn_like(embeddings), dim=1))
        positions = model.model.decoder.embed_positions.weight
        script = _script(tokenizer)
        positions[: len(script)] = 20 * embeddings[script]
        model.model.decoder.layer_norm.weight.fill_(SURENESS)
    model.generation_config = GenerationConfig(
        suppress_tokens=[], begin_suppress_tokens=[], eos_token_id=end, decoder_start_token_id=start
    )
    model.generation_config.alignment_heads = [[0, 0], [0, 1]]
    first = tokenizer.token_to_id("<|en|>")
    model.generation_config.lang_to_id = {
        tokenizer.id_to_token(number): number for number in range(first, first + len(LANGUAGES))
    }
    return model


def voice(length_s: float, *, seed: int = 0) -> FloatArray:
    """Return a buzz through changing vowels, which detectors of speech take for speech."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    pitch_hz = 120 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * times_s))
    buzz = np.diff(np.floor(np.cumsum(pitch_hz) / RATE_HZ), prepend=0)
    buzz += 0.01 * rng.normal(size=len(buzz))
    parts = []
    while sum(map(len, parts)) < len(buzz):
        at = sum(map(len, parts))
        syllable = buzz[at : at + int(rng.uniform(0.12, 0.25) * RATE_HZ)]
        parts.append(_through(syllable, VOWELS_HZ[rng.integers(len(VOWELS_HZ))]))
    said = np.concatenate(parts)
    return np.asarray(said / np.abs(said).max() / 2, np.float32)


def _through(syllable: FloatArray, formants_hz: tuple[int, ...]) -> FloatArray:
    """Send a syllable through resonances, by its spectrum."""
    spectrum = np.fft.rfft(syllable, 2 * len(syllable))
    at_hz = np.fft.rfftfreq(2 * len(syllable), 1 / RATE_HZ)
    for formant_hz in formants_hz:
        z = np.exp(2j * np.pi * at_hz / RATE_HZ)
        pole = np.exp(-np.pi * 100 / RATE_HZ + 2j * np.pi * formant_hz / RATE_HZ)
        spectrum = spectrum / ((1 - pole / z) * (1 - pole.conjugate() / z))
    heard = np.fft.irfft(spectrum)[: len(syllable)]
    return heard * np.sqrt(np.hanning(len(heard)))


def silence(length_s: float) -> FloatArray:
    return np.zeros(int(length_s * RATE_HZ), np.float32)


def spoken(path: Path, *parts: FloatArray) -> Path:
    """Write samples one after the other as a file's sound; .mp4 and .mkv have a picture too."""
    samples = np.concatenate(parts)
    with av.open(str(path), "w") as container:
        tracks: list[Iterator[Encodable]] = []
        if path.suffix in PICTURED:
            tracks.append(_pictures(container.add_stream("libx264", rate=FPS), len(samples)))
        codec = "pcm_s16le" if path.suffix == ".wav" else "aac"
        sound = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        tracks.append(sound_blocks(sound, samples, RATE_HZ, SOUND_BLOCK))
        write_interleaved(container, tracks)
    return path


def _pictures(stream: VideoStream, samples: int) -> Iterator[Encodable]:
    """Yield a grey that grows brighter."""
    stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
    stream.options = {"preset": "ultrafast", "threads": "1"}
    for number in range(samples * FPS // RATE_HZ):
        grey = np.full((96, 160, 3), number % 200, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield number / FPS, stream, frame


def processes() -> list[psutil.Process]:
    """Return the running processes that recognise speech for this one."""
    return [
        process
        for process in psutil.Process().children()
        if "ingest.transcripts.recogniser_child" in process.cmdline()
    ]
