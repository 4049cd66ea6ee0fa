"""A second version of the index, built, compared, switched to and left again under searches."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from deploy.demo.render import render_all
from export.build import Order, export_bundle
from gateway.catalogue.catalogue import Catalogue
from gateway.client import Client
from gateway.schemas import Filters, LegWeights, SearchReply, SearchRequest, VideoPatch
from tests.conftest import free_port
from tests.stacks import LiveStack, pixserve, running_stack

pytestmark = [pytest.mark.live, pytest.mark.timeout(1_500)]  # two exports and a stack

VIDEOS = 2
BUILD_S = 600  # a build gives way to all else, so on a busy machine it takes long
PAUSE_S = 0.05  # of a client between two searches: the build is at a lower priority than they are
WORDS = ("baking bread in the oven", "tuning a guitar", "a volcano erupts", "growing tomatoes")
BY_SPEECH = LegWeights(speech=1.0)

Answer = tuple[tuple[str, float], ...]  # segments, and how near they are


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """A stack that serves two bundles, whose vectors have nothing to do with each other."""
    folder = tmp_path_factory.mktemp("versions")
    data_dir = folder / "data"
    for order in (Order(), Order(random_weights=True)):
        export_bundle("mini", data_dir / "models", lambda *_: None, order)
    catalogue = Catalogue(f"sqlite:///{data_dir / 'catalogue.db'}")
    catalogue.versions.switch("mini-1")
    catalogue.close()
    videos = render_all(folder / "demo", lambda _name, _done, _total: None, size=(320, 180))
    with running_stack(data_dir, free_port(), "--allow-random-weights") as stack:
        for video in videos[:VIDEOS]:
            stack.ingest(video.path, video.sidecar)
        yield stack


@dataclass
class Searches:
    """Searches that go on, and what they were answered."""

    url: str
    answers: list[tuple[str, str, Answer]] = field(default_factory=list)  # version, words
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(stop,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, stop: threading.Event) -> None:
        with Client(self.url) as client:
            while not stop.wait(PAUSE_S):
                for words in WORDS:
                    try:
                        reply = asked(client, words)
                        self.answers.append((reply.model_version, words, answer_of(reply)))
                    except Exception as error:
                        self.failures.append(repr(error))


def asked(client: Client, words: str) -> SearchReply:
    request = SearchRequest(query=words, weights=BY_SPEECH, group="segment", pix_weight=0.0)
    return client.search(request)


def answer_of(reply: SearchReply) -> Answer:
    moments = [moment for hit in reply.hits for moment in hit.moments]
    return tuple((m.segment_id, round(m.parts.legs[0].raw, 3)) for m in moments)


def calm(stack: LiveStack, version: str) -> dict[str, Answer]:
    with Client(stack.url) as client:
        replies = {words: asked(client, words) for words in WORDS}
    assert {reply.model_version for reply in replies.values()} == {version}
    return {words: answer_of(reply) for words, reply in replies.items()}


def index(stack: LiveStack, *arguments: str) -> str:
    where = ("--data-dir", str(stack.data_dir))
    return pixserve("index", *arguments, *where, timeout_s=BUILD_S)


@pytest.fixture(autouse=True)
def random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXSERVE_ALLOW_RANDOM_WEIGHTS", "true")


def test_a_version_is_built_compared_switched_to_and_left_under_searches(stack: LiveStack) -> None:
    first = calm(stack, "mini-1")
    searches = Searches(stack.url)
    with searches.going_on():
        assert f"{VIDEOS} videos built into mini-2, 0 failed" in index(stack, "build", "mini-2")
        assert "0 videos built" in index(stack, "build", "mini-2")
        compared = index(stack, "compare", "mini-2", "--queries", "10")
        told = [
            index(stack, "switch", "mini-2"),
            index(stack, "rollback"),
            index(stack, "rollback"),
        ]
    second = calm(stack, "mini-2")

    assert re.search(
        r"speech: rows (\d+) and \1, recall@100 to brute force 1.000 and 1.000", compared
    )
    for line, version in zip(told, ("mini-2", "mini-1", "mini-2"), strict=True):
        assert re.match(rf"searches use {version} since \d+\.\d+ s after the switch\n", line)
    assert not searches.failures
    assert {version for version, _, _ in searches.answers} == {"mini-1", "mini-2"}
    assert first != second
    truth = {"mini-1": first, "mini-2": second}
    for version, words, answer in searches.answers:
        assert answer == truth[version][words], f"a reply of {version} is not that version's"


def test_after_a_switch_uploads_patches_and_the_way_back_work(stack: LiveStack) -> None:
    videos = render_all(stack.data_dir.parent / "demo", lambda _n, _d, _t: None, size=(320, 180))
    assert "mini-2: visual" in index(stack, "list")
    new = stack.ingest(videos[VIDEOS].path, videos[VIDEOS].sidecar)
    with Client(stack.url) as client:
        assert client.video(new.video_id).model_version == "mini-2"
        old = client.videos(limit=100).videos[-1].id
        client.patch_video(old, VideoPatch(category="changed"))
    assert "1 videos are queued for it" in index(stack, "rollback")
    with Client(stack.url) as client:
        for job in client.jobs(limit=10):
            if job.kind == "reindex":
                assert stack.wait_for(job.id).state == "succeeded"
        request = SearchRequest(
            query=WORDS[0], weights=BY_SPEECH, filters=Filters(category=("changed",))
        )
        reply = client.search(request)
    assert reply.model_version == "mini-1"
    assert {hit.video_id for hit in reply.hits} == {old}


def test_the_version_that_searches_use_cannot_be_dropped_and_another_can(stack: LiveStack) -> None:
    with pytest.raises(AssertionError, match="mini-1 is what searches use"):
        index(stack, "drop", "mini-1")
    assert "gone" in index(stack, "drop", "mini-2")
    listed = index(stack, "list")
    assert "mini-2: no index" in listed
    with pytest.raises(AssertionError, match="no version to go back to"):
        index(stack, "rollback")
    with pytest.raises(AssertionError, match=f"{VIDEOS + 1} videos are not in mini-2"):
        index(stack, "switch", "mini-2")
    assert calm(stack, "mini-1")
