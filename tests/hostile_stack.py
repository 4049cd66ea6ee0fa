"""Uploads hostile files to a running stack while searches go on: are they answered throughout?

    python -m tests.hostile_stack --data-dir DIR --files 500 --seed 1

Each file is uploaded by itself and must end, indexed or refused with a reason. Meanwhile the load
harness asks searches at a fixed rate, open loop. Exit code 1: a file has no typed end, a search
failed or hung, or a visit was made to where the files point.
"""

import threading
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from gateway.client import Client
from gateway.errors import PixserveError
from gateway.schemas import VideoMetadata
from loadtest.harness.firing import Stop
from loadtest.harness.place import Place
from loadtest.harness.report.markdown import run_markdown
from loadtest.harness.results import RunResult
from loadtest.harness.run import run_scenario
from loadtest.harness.scenario import Constant, Queries, Scenario, SearchText, Slo
from loadtest.stack import find_stack
from tests.hostile import lured
from tests.hostile_files import hostile_files

LONGEST_S = 3_600.0  # of the searches; they stop with the last file
UPLOAD_S = 60.0
CREATOR = "hostile"


class Searches(threading.Thread):
    """Searches at a rate, until stopped; `result` is there afterwards."""

    def __init__(self, url: str, rate_per_s: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._place = Place(url)
        self._seed = seed
        self._ending = Stop()
        self._scenario = Scenario(
            name="search while hostile files come",
            load=Constant(rate_per_s=rate_per_s, duration_s=LONGEST_S, warm_up_s=5),
            target=(SearchText(queries=Queries(source="unique")),),
            slo=(Slo(availability=1.0, hung=0),),
        )
        self.result: RunResult | None = None

    def run(self) -> None:
        """Ask."""
        finished = run_scenario(
            self._scenario, Path(), self._place, seed=self._seed, stop=self._ending
        )
        self.result = finished.result

    def end(self) -> RunResult:
        """Ask no more, and return what came of it."""
        self._ending.asked = True
        self.join()
        assert self.result is not None
        return self.result


def outcome_of(client: Client, path: Path) -> str:
    """Upload one file and return what became of it: indexed, refused: REASON, or broke: WHAT."""
    metadata = VideoMetadata(title=path.stem, creator_id=CREATOR)
    try:
        job = client.wait(client.upload(path, metadata).job_id)
    except PixserveError as error:
        return f"refused: {getattr(error, 'reason', error.kind)}"
    except Exception as error:  # anything else is what is looked for here
        return f"broke: {type(error).__name__}: {error}"
    if job.state == "succeeded":
        return "indexed"
    reason = (job.error or "").partition(":")[0]
    return f"refused: {reason}" if reason else f"broke: {job.state} without a reason"


def main(
    data_dir: Annotated[Path, typer.Option(help="Of the running stack.")],
    files: Annotated[int, typer.Option(min=1, help="How many.")] = 500,
    seed: Annotated[int, typer.Option(help="Of files and queries.")] = 1,
    rate: Annotated[float, typer.Option(min=0.1, help="Searches a second.")] = 10.0,
) -> None:
    """Upload hostile files, one after the other, while searches go on."""
    url = find_stack(data_dir).gateway
    outcomes: Counter[str] = Counter()
    with TemporaryDirectory() as name, lured(Path(name)) as (lures, visits):
        searches = Searches(url, rate, seed)
        searches.start()
        with Client(url, UPLOAD_S) as client:
            for hostile in hostile_files(Path(name) / "files", files, seed, lures):
                outcomes[outcome_of(client, hostile.path)] += 1
                hostile.path.unlink()
        result = searches.end()
        visited = visits()
    for outcome, count in sorted(outcomes.items()):
        typer.echo(f"{count:5} {outcome}")
    typer.echo(run_markdown(result))
    broken = sum(count for outcome, count in outcomes.items() if outcome.startswith("broke"))
    typer.echo(f"{files} files, {broken} without a typed end, {visited} visits elsewhere")
    held = all(verdict.held for verdict in result.slo)
    raise typer.Exit(0 if held and not broken and not visited else 1)


if __name__ == "__main__":
    typer.run(main)
