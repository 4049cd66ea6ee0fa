"""The command `pixserve`. Commands import what they need when they run, so that --help is quick."""

import sys

import typer

import deploy.cli
import export.cli
import gateway.commands.audit
import gateway.commands.embed
import gateway.commands.index
import gateway.commands.jobs
import gateway.commands.search
import gateway.commands.videos
import loadtest.cli
import loadtest.harness.cli
import training.cli
from gateway.errors import PixserveError

app = typer.Typer(
    name="pixserve",
    help="Find moments in videos by words, images and sounds. Start with: pixserve up",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)
PARTS = (
    deploy.cli,
    gateway.commands.videos,
    gateway.commands.jobs,
    gateway.commands.index,
    gateway.commands.search,
    gateway.commands.audit,
    gateway.commands.embed,
    export.cli,
    loadtest.cli,
    loadtest.harness.cli,
    training.cli,
)
for part in PARTS:
    part.register(app)


def main() -> None:
    """Run the command; an error that is not a bug is one line."""
    try:
        app()
    except PixserveError as error:
        sys.exit(f"pixserve: {error.message}")
