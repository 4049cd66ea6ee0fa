"""`python -m gateway.serve`: the gateway as a process."""

import gc
import sys

import uvicorn
import uvloop

from gateway.api.app import create_app
from gateway.api.logs import log_to_stderr
from gateway.doors import open_doors
from gateway.errors import PixserveError
from gateway.settings import Settings, settings_from_environment

GRACE_S = 10  # for requests that run when the process is told to stop
KEEP_ALIVE_S = 30  # an idle connection is kept this long
BACKLOG = 1_024  # connections that wait to be accepted
GC_THRESHOLD = 20_000  # objects made since the last look at the young ones; Python's own is 700
SWITCH_S = 0.000_5  # that a thread keeps the interpreter while another one waits; Python's: 5 ms


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that run are finished first.

    Triton and Milvus need not be there yet: they are connected to when they are.

    Raises:
        ConfigurationError: no bundle is exported, or a setting is wrong.
        Unavailable: the catalogue cannot be reached.
    """
    app = create_app(open_doors(settings))
    _favour_latency()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    await uvicorn.Server(config).serve()


def _favour_latency() -> None:
    """Set the interpreter to short waits: what Python does by default suits long computations.

    What is there once the application is made stays, so the collector need not look at it: that
    took 80 ms each time. And a thread that reads the catalogue lets the event loop go on soon.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_S)


def main() -> None:
    """Run the gateway with the settings of the environment."""
    log_to_stderr()
    try:
        uvloop.run(serve(settings_from_environment()))
    except PixserveError as error:
        sys.exit(f"pixserve gateway: {error.message}")


if __name__ == "__main__":
    main()
