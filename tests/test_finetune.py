"""Fine-tuning of fusion on pairs: what is refused, what an interruption costs, what it brings."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest
import torch

from ensembles.bundle import Bundle, bundle_folder, list_bundles
from export.build import Order, export_bundle
from export.profiles import find_profile
from export.weights import build_fusion
from gateway.catalogue.catalogue import Catalogue
from gateway.errors import ConfigurationError, Conflict, InvalidRequest, NotFound
from gateway.index.milvus import Milvus
from gateway.schemas import LegName
from gateway.settings import Settings
from ingest.tokens import Tokens, kept_tokens_path, read_tokens
from tests.catalogues import empty_catalogue, findings, new_video
from tests.examples import DIMS, halves, heard_examples
from training.evaluation.bootstrap import compare
from training.tuning.candidates import export_run, find_bundle, keep_current
from training.tuning.examples import part, split
from training.tuning.finetune import bundle_ranks, starting_fusion, train_fusion
from training.tuning.fit import Epoch, FitSettings, Fitted, Task, fit
from training.tuning.pairs import embed_queries, load_examples, read_pairs
from training.tuning.promote import Promoted, index_rows, promote
from training.tuning.runs import Run, read_run, write_run
from training.tuning.scorer import FusionTask, Scorer
from training.tuning.strategies import STRATEGIES

SETTINGS = FitSettings(epochs=6, batch=16, learning_rate=1e-2, patience=6)
VIDEOS, SEGMENTS = 6, 8  # segments of each

RANDOM = Order(precision="fp32", random_weights=True)  # what is tuned need not be trained


def silent(*_: object) -> None:
    pass


def task(strategy: str = "weighted-sum") -> FusionTask:
    examples = heard_examples(60)
    return FusionTask(Scorer(STRATEGIES[strategy](DIMS, 1)), examples, *halves(examples))


def weights(trained: Task) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trained.module.state_dict().items()}


# ---- the loop


def test_training_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    class Level(FusionTask):
        def ndcg(self) -> float:
            return 0.5

    examples = heard_examples(60)
    level = Level(Scorer(STRATEGIES["weighted-sum"](DIMS, 1)), examples, *halves(examples))
    before = weights(level)
    patient = msgspec.structs.replace(SETTINGS, epochs=50, patience=3)
    fitted = fit(level, patient, tmp_path / "c.pt", silent)
    assert (len(fitted.epochs), fitted.best_epoch) == (3, 0)
    assert all(torch.equal(value, before[name]) for name, value in weights(level).items())


def test_the_best_epochs_weights_are_kept(tmp_path: Path) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}
    trained = task()

    def remember(epoch: Epoch, _: FitSettings) -> None:
        seen[epoch.number] = weights(trained)

    fitted = fit(trained, SETTINGS, tmp_path / "c.pt", remember)
    assert fitted.best_epoch > 0
    best = max(fitted.epochs, key=lambda epoch: epoch.ndcg_10)
    assert fitted.best_epoch == best.number
    kept = seen[fitted.best_epoch]
    assert all(torch.equal(value, kept[name]) for name, value in weights(trained).items())


def test_an_interrupted_and_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = task()
    expected = fit(whole, SETTINGS, tmp_path / "whole.pt", silent)

    def interrupt(epoch: Epoch, _: FitSettings) -> None:
        if epoch.number == 3:
            raise KeyboardInterrupt

    broken = task()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, SETTINGS, tmp_path / "broken.pt", interrupt)
    resumed = task()
    told: list[int] = []
    fitted = fit(
        resumed, SETTINGS, tmp_path / "broken.pt", lambda epoch, _: told.append(epoch.number)
    )
    assert told == [4, 5, 6]
    assert fitted == expected
    assert all(torch.equal(value, weights(whole)[n]) for n, value in weights(resumed).items())


def test_an_interruption_within_an_epoch_costs_that_epoch_alone(tmp_path: Path) -> None:
    class Interrupted(FusionTask):
        steps = 0

        def loss(self, pairs: np.ndarray) -> torch.Tensor:
            self.steps += 1
            if self.steps == 5:
                raise KeyboardInterrupt
            return super().loss(pairs)

    expected = fit(task(), SETTINGS, tmp_path / "whole.pt", silent)
    examples = heard_examples(60)
    broken = Interrupted(Scorer(STRATEGIES["weighted-sum"](DIMS, 1)), examples, *halves(examples))
    with pytest.raises(KeyboardInterrupt):
        fit(broken, SETTINGS, tmp_path / "c.pt", silent)
    assert fit(task(), SETTINGS, tmp_path / "c.pt", silent) == expected


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    class Diverging(FusionTask):
        steps = 0

        def loss(self, pairs: np.ndarray) -> torch.Tensor:
            self.steps += 1
            return super().loss(pairs) * (float("nan") if self.steps == 4 else 1)

    examples = heard_examples(60)
    diverging = Diverging(Scorer(STRATEGIES["weighted-sum"](DIMS, 1)), examples, *halves(examples))
    checkpoint = tmp_path / "c.pt"
    with pytest.raises(ConfigurationError, match=r"nan in epoch 2, step 2; .*of epoch 1.*c\.pt"):
        fit(diverging, SETTINGS, checkpoint, silent)
    once = task()
    fit(once, msgspec.structs.replace(SETTINGS, epochs=1), tmp_path / "once.pt", silent)
    good = torch.load(checkpoint, weights_only=True)["weights"]
    again = torch.load(tmp_path / "once.pt", weights_only=True)["weights"]
    assert all(torch.equal(value, again[name]) for name, value in good.items())


def test_a_loss_that_is_no_number_at_once_says_that_there_is_no_checkpoint(tmp_path: Path) -> None:
    broken = task()
    with torch.no_grad():
        broken.module.get_parameter("log_scale").fill_(float("nan"))
    with pytest.raises(ConfigurationError, match="epoch 1, step 1; no epoch was finished"):
        fit(broken, SETTINGS, tmp_path / "c.pt", silent)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ConfigurationError, match="no checkpoint of this training"):
        fit(task(), SETTINGS, tmp_path / "c.pt", silent)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    fit(task(), msgspec.structs.replace(SETTINGS, epochs=1), tmp_path / "c.pt", silent)
    with pytest.raises(ConfigurationError, match="no checkpoint of this training"):
        fit(task("concat-mlp"), SETTINGS, tmp_path / "c.pt", silent)


# ---- pairs


def write(path: Path, *pairs: tuple[str, str]) -> Path:
    path.write_text("".join(f'{{"query": "{q}", "segment": "{s}"}}\n' for q, s in pairs))
    return path


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_of_pairs_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(InvalidRequest, match="is empty"):
        read_pairs(tmp_path / "pairs.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b'{"query": "a kite"}',
        b'{"query": "", "segment": "v-1"}',
        b'{"query": "a kite", "segment": "../v"}',
        b'{"query": "a kite", "segment": "v-1", "weight": 2}',
        b'{"query": "\xff", "segment": "v-1"}',
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: bytes) -> None:
    good = b'{"query": "a kite", "segment": "v-1"}\n'
    (tmp_path / "pairs.jsonl").write_bytes(good + line)
    with pytest.raises(InvalidRequest, match="line 2 is no pair"):
        read_pairs(tmp_path / "pairs.jsonl")


def test_a_missing_file_of_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")


def test_a_pair_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", ("a", "v-1"), ("b", "v-1"), ("a", "v-1"))
    assert len(read_pairs(path)) == 2


def test_pairs_of_one_segment_or_one_query_are_refused() -> None:
    names = [f"name {at}" for at in range(20)]
    many = np.arange(20)
    same = np.zeros(20, np.int64)
    with pytest.raises(InvalidRequest, match="find the same, 'name 0'"):
        split(np.stack([many, same], axis=1), names, names, 1)
    with pytest.raises(InvalidRequest, match="ask the same, 'name 0'"):
        split(np.stack([same, many], axis=1), names, names, 1)


def test_too_few_segments_are_refused() -> None:
    names = [f"name {at}" for at in range(9)]
    with pytest.raises(InvalidRequest, match="9 things to find; 10 are needed"):
        split(np.stack([np.arange(9)] * 2, axis=1), names, names, 1)


def test_no_segment_is_in_two_parts() -> None:
    rng = np.random.default_rng(2)
    pairs = np.unique(
        np.stack([rng.integers(0, 50, 200), rng.integers(0, 40, 200)], axis=1), axis=0
    )
    names = [str(at) for at in range(50)]
    parts = split(pairs, names, names, 5)
    found = [set(part[:, 1].tolist()) for part in (parts.train, parts.validation, parts.held_out)]
    assert all(found)
    assert sum(len(part) for part in found) == len(found[0] | found[1] | found[2])
    assert sum(len(p) for p in (parts.train, parts.validation, parts.held_out)) == len(pairs)


# ---- a run on a stack's data folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data folder with the mini bundle."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=str(folder))
    export_bundle("mini", settings.models_dir, silent, RANDOM)
    return settings


@pytest.fixture(scope="module")
def bundle(settings: Settings) -> Bundle:
    return list_bundles(settings.models_dir, "mini")[0]


@pytest.fixture(scope="module")
def catalogue(settings: Settings, bundle: Bundle):
    """A catalogue of videos with tokens, in which each segment sounds like a query."""
    with empty_catalogue(settings.database_url) as catalogue:
        catalogue.versions.switch(bundle.id)
        queries = embed_queries(
            settings.models_dir / "mini" / "bundles" / "1", "clip", all_queries()
        ).reshape(VIDEOS, SEGMENTS, -1)
        for number in range(VIDEOS):
            catalogue.library.add(new_video(f"video-{number}"))
            catalogue.analyses.store(f"video-{number}", findings(f"video-{number}", segments=8))
            folder = settings.videos_dir / f"video-{number}"
            folder.mkdir(parents=True)
            tokens_like(queries[number], bundle, number).write(folder / "tokens.npz")
        yield catalogue


def all_queries() -> list[str]:
    sounds = ("rain", "bells", "waves", "steps", "wind", "birds")
    places = ("night", "day", "home", "town", "spring", "hills", "boats", "roads")
    return [f"{sound} of {place}" for sound in sounds for place in places]


def tokens_like(queries: np.ndarray, bundle: Bundle, seed: int) -> Tokens:
    rng = np.random.default_rng(seed)
    everything = np.arange(SEGMENTS, dtype=np.int32)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    ones = np.ones(SEGMENTS, np.float32)
    return Tokens(
        model_version=bundle.id,
        frames=unit(rng.normal(size=(SEGMENTS, bundle.dims.vision))),
        frame_times_s=5.0 * everything,
        frame_segments=everything,
        frame_weights=ones,
        audio=unit(queries + 0.02 * rng.normal(size=queries.shape)),
        audio_times_s=5.0 * everything,
        audio_segments=everything,
        audio_weights=ones,
        text=unit(rng.normal(size=(SEGMENTS, bundle.dims.sentence))),
        text_segments=everything,
        text_weights=ones,
        segment_starts_s=5.0 * everything,
        segment_ends_s=5.0 * everything + 5,
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    ids = [f"video-{v}-{5000 * s:09d}" for v in range(VIDEOS) for s in range(SEGMENTS)]
    return write(tmp_path / "pairs.jsonl", *zip(all_queries(), ids, strict=True))


def test_pairs_that_name_unknown_segments_are_refused_with_their_names(
    tmp_path: Path, settings: Settings, bundle: Bundle, catalogue: Catalogue
) -> None:
    known = ("a", "video-0-000000000")
    unknown = [("b", f"nothing-{at}") for at in range(12)]
    found = read_pairs(write(tmp_path / "pairs.jsonl", known, *unknown))
    with pytest.raises(NotFound, match=r"12 of 13 segments: nothing-0, .*nothing-9 and 2 more"):
        load_examples(found, bundle, catalogue, settings)


def test_tokens_come_with_their_segments(
    pairs: Path, settings: Settings, bundle: Bundle, catalogue: Catalogue
) -> None:
    examples = load_examples(read_pairs(pairs), bundle, catalogue, settings)
    sounds, there = examples.tokens.audio.padded(np.arange(len(examples.segment_ids)))
    assert there.tolist() == [[1.0]] * (VIDEOS * SEGMENTS)
    likeness = (examples.words * sounds[:, 0]).sum(axis=1)
    assert likeness.min() > 0.9


def test_a_fine_tuned_fusion_is_exported_compared_and_kept_or_dropped(
    pairs: Path, settings: Settings, bundle: Bundle, catalogue: Catalogue, tmp_path: Path
) -> None:
    wanted = FitSettings(epochs=30, batch=16, learning_rate=5e-3, patience=30)
    folder = tmp_path / "run"
    run = train_fusion(pairs, bundle, catalogue, settings, folder, wanted, silent)
    assert run == read_run(folder)
    assert isinstance(run.fitted, Fitted)
    assert run.fitted.best_epoch > 0
    assert run.measures["trained"].mrr.mean > run.measures["current"].mrr.mean

    new = export_run(run, folder, settings.models_dir, silent)
    assert (new.id, new.capabilities.fusion_trained) == ("mini-2", True)
    assert new.calibration["fused_by_words"].low < new.calibration["fused_by_words"].high
    assert export_run(run, folder, settings.models_dir, silent) == new  # not a third one
    bundles = settings.models_dir / "mini" / "bundles"
    shared = "clip_vision/model.onnx"
    assert (bundles / "1" / shared).samefile(bundles / "2" / shared)
    assert not (bundles / "1" / "fusion/model.onnx").samefile(bundles / "2" / "fusion/model.onnx")
    assert (settings.models_dir / "mini/repository/fusion/2/model.onnx").is_file()

    examples = load_examples(read_pairs(folder / "pairs.jsonl"), bundle, catalogue, settings)
    held_out = part(examples, wanted.seed).held_out
    served = bundle_ranks(new, settings.models_dir, examples, held_out)
    assert np.mean([1 / rank for rank in served]) == pytest.approx(run.measures["trained"].mrr.mean)
    assert torch.equal(
        starting_fusion(new, settings.models_dir).state_dict()["gate"],
        torch.load(next(folder.glob("*.pt")), weights_only=True)["best"]["strategy.gate"],
    )

    assert keep_current(new.id, settings.models_dir, catalogue) == "mini-1"
    assert [one.id for one in list_bundles(settings.models_dir, "mini")] == ["mini-1"]
    with pytest.raises(NotFound, match="there are: mini-1"):
        find_bundle(settings.models_dir, "mini-2")


# ---- promotion


async def count(milvus_uri: str, bundle: Bundle, leg: LegName, video: str) -> int:
    milvus = Milvus(milvus_uri)
    try:
        return await milvus.count(bundle, leg, video, timeout_s=10)
    finally:
        await milvus.close()


def test_a_promoted_bundle_has_every_video_from_its_tokens_and_the_way_back_is_the_same(
    settings: Settings,
    bundle: Bundle,
    catalogue: Catalogue,
    milvus_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIXSERVE_MILVUS", milvus_uri.replace("//", "//root:pass%2Fword@"))
    opened: list[str] = []

    def door(uri: str) -> Milvus:
        opened.append(uri)
        return Milvus(uri)

    monkeypatch.setattr("training.tuning.promote.Milvus", door)
    new = export_run(changed_run(bundle, tmp_path), tmp_path, settings.models_dir, silent)
    with pytest.raises(Conflict, match="6 jobs are not finished"):
        promote(new.id, settings, catalogue, silent)
    assert catalogue.versions.current() == bundle.id
    while job := catalogue.jobs.claim("worker", lease_s=60):
        catalogue.jobs.finish(job)

    assert promote(new.id, settings, catalogue, silent) == Promoted(new.id, VIDEOS, "from tokens")
    assert catalogue.versions.current() == new.id
    assert [urlsplit(uri).password for uri in opened] == ["pass%2Fword"]
    for leg in ("visual", "speech", "sound", "fused"):
        assert asyncio.run(count(milvus_uri, new, leg, "video-3")) == SEGMENTS
    assert catalogue.versions.previous() == bundle.id
    folder = settings.videos_dir / "video-3"
    assert read_tokens(folder / "tokens.npz", new).frames.shape[0]
    assert read_tokens(kept_tokens_path(folder, bundle.id), bundle).frames.shape[0]
    assert catalogue.library.video("video-3").model_version == new.id
    with pytest.raises(Conflict, match="promote another"):
        keep_current(new.id, settings.models_dir, catalogue)

    assert promote(new.id, settings, catalogue, silent).videos == 0
    assert promote(bundle.id, settings, catalogue, silent).videos == VIDEOS
    assert catalogue.versions.previous() == new.id
    assert keep_current(new.id, settings.models_dir, catalogue) == bundle.id
    assert catalogue.versions.previous() is None


def test_rows_of_the_index_hold_what_the_tokens_hold(
    settings: Settings, bundle: Bundle, catalogue: Catalogue
) -> None:
    tokens = read_tokens(settings.videos_dir / "video-2" / "tokens.npz", bundle)
    video = catalogue.library.video("video-2")
    rows = index_rows(video, tokens, bundle, settings, catalogue)
    assert [row.segment_id for row in rows] == [f"video-2-{5000 * n:09d}" for n in range(SEGMENTS)]
    for number, row in enumerate(rows):
        assert row.text == f"words {number}"
        assert row.sound is not None
        assert row.sound @ tokens.audio[number] == pytest.approx(1, abs=1e-3)
        assert row.fused is not None  # untrained, it is the mean frame
        assert row.fused @ tokens.frames[number] == pytest.approx(1, abs=1e-3)


def test_other_encoders_need_a_new_analysis_by_workers_that_use_them(
    settings: Settings, bundle: Bundle, catalogue: Catalogue, tmp_path: Path
) -> None:
    new = export_run(changed_run(bundle, tmp_path), tmp_path, settings.models_dir, silent)
    folder = bundle_folder(settings.models_dir, "mini", new.version)
    (folder / "wav2vec2" / "model.onnx").unlink()
    (folder / "wav2vec2" / "model.onnx").write_bytes(b"another encoder")
    done = promote(new.id, settings, catalogue, silent)
    assert done == Promoted(new.id, VIDEOS, "queued")
    waiting = catalogue.jobs.counts()
    assert waiting["ingest", "queued"] == VIDEOS
    catalogue.versions.switch(bundle.id)
    keep_current(new.id, settings.models_dir, catalogue)


def changed_run(bundle: Bundle, folder: Path) -> Run:
    """A run whose fusion is another one than the bundle's."""
    module = build_fusion(find_profile("mini"), None)
    with torch.no_grad():
        module.gate.fill_(0.3)
    fitted = Fitted(1, (), 0.5)
    run = Run(
        kind="fusion", trained_from=bundle.id, key="", source="", pairs=1, held_out=1,
        settings=SETTINGS, fitted=fitted, measures={}, bands={},
        against_current=compare(np.ones(2), np.zeros(2)),
    )  # fmt: skip
    write_run(folder, run, module)
    return run
