"""A cold start: the local stack is brought up while requests already come, and taken down after."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.harness.place import Place

DOWN_S = 60.0


@contextmanager
def cold_start(place: Place) -> Iterator[None]:
    """Run `pixserve up` in the background; `pixserve down` when the run is over."""
    pixserve = str(Path(sys.executable).with_name("pixserve"))
    where = ["--data-dir", str(place.data_dir)]
    port = str(urlsplit(place.url).port or 80)
    starting = subprocess.Popen(
        [pixserve, "up", "--detach", "--port", port, *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the harness's
    )
    try:
        yield
    finally:
        if starting.poll() is None:
            starting.terminate()
        starting.wait(DOWN_S)
        subprocess.run([pixserve, "down", *where], timeout=DOWN_S, check=False, capture_output=True)
