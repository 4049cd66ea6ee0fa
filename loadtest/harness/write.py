"""Puts results into a folder; a full disk costs the files, never the figures."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from loadtest.harness.histograms import write_log
from loadtest.harness.report.html import run_html
from loadtest.harness.report.markdown import run_markdown
from loadtest.harness.results import HISTOGRAM_FOLDER, RESULT_FILE, RunResult, encode
from loadtest.harness.run import Finished

REPORT_FILE = "report.html"
SUMMARY_FILE = "summary.md"
RESULTS = Path("loadtest-results")


def default_folder(name: str) -> Path:
    """Return a folder of its own for a run that starts now."""
    return RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def write_run(folder: Path, finished: Finished) -> str:
    """Write everything of a run; returns why something could not be written, "" where all was."""
    return write_files(folder, run_files(finished.result)) or _write_histograms(folder, finished)


def run_files(result: RunResult) -> dict[str, bytes]:
    """Return the files of a run by name, the result itself first."""
    return {
        RESULT_FILE: encode(result),
        SUMMARY_FILE: run_markdown(result).encode(),
        REPORT_FILE: run_html(result).encode(),
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> str:
    """Write files; returns why that could not be done, "" where it was."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        return _reason(folder, error)
    return ""


def _write_histograms(folder: Path, finished: Finished) -> str:
    try:
        logs = folder / HISTOGRAM_FOLDER
        logs.mkdir(exist_ok=True)
        for target, intervals in finished.histograms.items():
            write_log(logs / f"{target}.hlog", intervals, finished.epoch_s)
    except OSError as error:
        return _reason(folder, error)
    return ""


def _reason(folder: Path, error: OSError) -> str:
    return f"the results could not be written to {folder}: {error.strerror or error}"
