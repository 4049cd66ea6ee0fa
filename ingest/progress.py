"""How far an analysis is, and what each of its stages takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

EMBED_FROM_PERCENT = 15  # of the way, when the first chunk is cut …
EMBED_TO_PERCENT = 95  # … and when the last one is embedded

Progress = Callable[[str, float], None]  # stage, percent of the whole way

T = TypeVar("T")


@dataclass
class StageClock:
    """Tells progress and measures the stages."""

    progress: Progress
    stage_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, percent: float) -> Iterator[None]:
        """Measure a stage that begins at a percentage of the whole way."""
        self.progress(name, percent)
        begun_s = time.perf_counter()
        yield
        self.stage_s[name] = time.perf_counter() - begun_s

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """Measure what making some items takes together, within another stage."""
        self.stage_s[name] = 0.0
        while True:
            begun_s = time.perf_counter()
            item = next(items, None)
            self.stage_s[name] += time.perf_counter() - begun_s
            if item is None:
                return
            yield item

    def tell(self, share: float) -> None:
        """Tell how far the embedding is: 0…1."""
        span = EMBED_TO_PERCENT - EMBED_FROM_PERCENT
        self.progress("embed", EMBED_FROM_PERCENT + share * span)
