"""Recall under load is the share of the calm answer that was found; a broken calm is no truth."""

import msgspec
import pytest

from gateway.schemas import SearchReply, StageTimes
from loadtest.harness.recall import measure_recall, overlap
from loadtest.harness.scenario import HttpGet, SearchText
from loadtest.harness.worker.share import Sample
from tests.harness_servers import http_server


def reply(ids, degraded=()):
    shell = SearchReply(
        hits=(),
        model_version="mini-1",
        degraded=degraded,
        stage_ms=StageTimes(total=1.0),
        request_id="r",
    )
    told = msgspec.to_builtins(shell)
    told["hits"] = [{"moments": [{"segment_id": each} for each in ids]}]
    return 200, "application/json", msgspec.json.encode(told)


def test_overlap_is_a_share_of_the_calm_answer():
    assert overlap(["a", "b", "x"], ["a", "b", "c", "d"]) == 0.5
    assert overlap([], ["a"]) == 0.0


def test_whole_and_degraded_answers_are_told_apart_and_asked_patiently():
    asked = []

    def respond(path):
        asked.append(path)
        return reply(["a", "b"])

    samples = [
        Sample(0, 0, False, ("a", "b")),
        Sample(0, 1, True, ("a",)),
        Sample(0, 2, True, ()),
        Sample(1, 0, False, ("a",)),  # no search with words
    ]
    with http_server(respond) as url:
        targets = (SearchText(), HttpGet())
        found = measure_recall(url, targets, [["one", "two", "three"], [""]], samples)
    assert found.keys() == {"search_text"}
    recall = found["search_text"]
    assert (recall.whole, recall.degraded, recall.samples) == (1.0, pytest.approx(0.25), 3)
    assert all("deadline_ms=10000" in path for path in asked)
    assert "q=two" in asked[1]


def test_a_calm_answer_that_is_degraded_or_missing_is_no_truth():
    samples = [Sample(0, 0, False, ("a",))]
    for answer in (reply(["a"], ("speech: late",)), reply([]), (503, "text/plain", b"")):
        with http_server(lambda _, answer=answer: answer) as url:
            found = measure_recall(url, (SearchText(),), [["one"]], samples)
        assert found.get("search_text") is None or found["search_text"].whole is None
