"""Do several inputs of a search find what each says? Words with a picture, and words with `not`."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.client import Client
from gateway.schemas import Filters, Hit, SearchRequest
from loadtest.pairs import Pair, Segment, Turned, about, pairs_of, turned_aspects
from training.evaluation.bootstrap import MISSED, Interval, interval, ndcg_at

DEPTH = 10
DEADLINE_MS = 30_000
INPUTS = ("words", "picture", "both")


class InputsReport(msgspec.Struct, frozen=True):
    """How well pairs of inputs were answered."""

    pairs: int  # of a picture and words, each with one segment that fits both
    ndcg_10: dict[str, Interval]  # by what was given
    legs_ms_p50: dict[str, float]  # waiting for Milvus, by what was given
    turned: int  # questions about a topic without one of its aspects
    of_topic: dict[str, float]  # of the first ten hits, those about the topic: plain, with `not`
    of_aspect: dict[str, float]  # those about the aspect that is not wanted


def bench_inputs(
    client: Client, segments: Sequence[Segment], creator: str, done: Callable[[], None]
) -> InputsReport:
    """Ask for segments by a picture of a look-alike with words about the sound, and with `not`.

    Args:
        client: of a gateway that holds the set.
        segments: of the set, with their ids.
        creator: of the set's videos.
        done: told of each question.

    Raises:
        PixserveError: a search failed.
    """
    asker = _Asker(client, segments, Filters(creator_id=(creator,)), done)
    pairs, turned = pairs_of(segments), turned_aspects(segments)
    ranks: dict[str, list[int]] = {given: [] for given in INPUTS}
    legs_ms: dict[str, list[float]] = {given: [] for given in INPUTS}
    for pair in pairs:
        picture = client.thumbnail(pair.like.video_id, pair.like.segment_id)
        for given in INPUTS:
            rank, waited_ms = asker.rank(pair, picture if given != "words" else None, given)
            ranks[given].append(rank)
            legs_ms[given].append(waited_ms)
    shares = [asker.shares(one) for one in turned]
    return InputsReport(
        pairs=len(pairs),
        ndcg_10={given: interval(ndcg_at(found)) for given, found in ranks.items()},
        legs_ms_p50={given: sorted(told)[len(told) // 2] for given, told in legs_ms.items()},
        turned=len(turned),
        of_topic=_means([topic for topic, _ in shares]),
        of_aspect=_means([aspect for _, aspect in shares]),
    )


class _Asker:
    """Searches among the segments of a set."""

    def __init__(
        self,
        client: Client,
        segments: Sequence[Segment],
        filters: Filters,
        done: Callable[[], None],
    ) -> None:
        self._client = client
        self._aspects = {one.segment_id: one.aspect for one in segments}
        self._filters = filters
        self._done = done

    def rank(self, pair: Pair, picture: bytes | None, given: str) -> tuple[int, float]:
        """Return the place of a pair's segment, the picture's own left out, and the legs' time."""
        words = None if given == "picture" else pair.words
        request = self._request(query=words, image=picture)
        reply = self._client.search(request)
        self._done()
        found = [_id(hit) for hit in reply.hits if _id(hit) != pair.like.segment_id]
        place = found.index(pair.right.segment_id) + 1 if pair.right.segment_id in found else MISSED
        return place, reply.stage_ms.legs

    def shares(self, turned: Turned) -> tuple[dict[str, float], dict[str, float]]:
        """Return the shares of the first hits that are about the topic, and about the aspect."""
        topic, aspect = {}, {}
        for name, away in (("plain", None), ("not", turned.away)):
            hits = self._client.search(self._request(query=turned.topic_words, not_=away)).hits
            self._done()
            said = [self._aspects.get(_id(hit), "") for hit in hits[:DEPTH]]
            topic[name] = about(said, turned.topic)
            aspect[name] = about(said, turned.aspect)
        return topic, aspect

    def _request(self, **asked: str | bytes | None) -> SearchRequest:
        return SearchRequest(
            **asked,  # type: ignore[arg-type] # the fields of a request, by their names
            filters=self._filters,
            group="segment",
            limit=DEPTH * 2,
            cutoff=0.0,
            deadline_ms=DEADLINE_MS,
        )


def _id(hit: Hit) -> str:
    return hit.moments[0].segment_id


def _means(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(one[name] for one in shares) / len(shares) for name in shares[0]}


def inputs_lines(report: InputsReport) -> list[str]:
    """Return the report in words."""
    found = ", ".join(
        f"{given} {100 * value.mean:.1f} ({100 * value.low:.0f}–{100 * value.high:.0f})"
        for given, value in report.ndcg_10.items()
    )
    waited = ", ".join(f"{given} {ms:.1f} ms" for given, ms in report.legs_ms_p50.items())
    return [
        f"nDCG@10 of {report.pairs} pairs of a look-alike's picture and words, %: {found}",
        f"waiting for Milvus, p50: {waited}",
        f"{report.turned} topics without an aspect: of the first {DEPTH} hits "
        f"{report.of_aspect['plain']:.1%} are about the aspect, with `not` "
        f"{report.of_aspect['not']:.1%}; about the topic {report.of_topic['plain']:.1%} and "
        f"{report.of_topic['not']:.1%}",
    ]
