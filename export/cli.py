"""`pixserve export` and `pixserve profiles`."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("profiles")(profiles)


def export(
    profile: Annotated[str, typer.Option(help="Which row of `pixserve profiles`.")] = "mini",
    data_dir: Annotated[Path, typer.Option(help="The data folder.")] = Path("pixserve-data"),
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=FOLDER: take a model's weights from a local folder. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Export although nothing has changed.")] = False,
) -> None:
    """Export a profile's models as a new bundle that the stack can serve.

    Nothing is done where weights and code are those of the newest bundle.
    """
    from rich.progress import Progress

    from export.build import export_bundle
    from gateway.errors import InvalidRequest

    folders = {}
    for pair in checkpoint or []:
        model, separator, folder = pair.partition("=")
        if not separator:
            raise InvalidRequest(f"--checkpoint takes MODEL=FOLDER, not {pair!r}")
        folders[model] = Path(folder)
    with Progress(transient=True) as bar:
        task = bar.add_task("export", total=None)
        bundle = export_bundle(
            profile,
            data_dir.expanduser().resolve() / "models",
            lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
            folders=folders,
            force=force,
        )
    typer.echo(f"{bundle.id} is exported; serve it with: pixserve up --profile {profile}")


def profiles(
    data_dir: Annotated[Path, typer.Option(help="The data folder.")] = Path("pixserve-data"),
) -> None:
    """List the profiles: sizes, what each can do, and which bundles are exported."""
    from rich.console import Console
    from rich.table import Table

    from ensembles.bundle import list_bundles
    from export.profiles import PROFILES

    table = Table("profile", "vision", "sentence", "audio", "can compare", "bundles", "for")
    models_dir = data_dir.expanduser().resolve() / "models"
    for profile in PROFILES.values():
        capabilities = profile.capabilities
        able = ["words↔speech", "image↔frames", "sound↔sounds"]
        able += ["words↔frames"] * capabilities.words_to_pixels
        able += ["words↔sounds"] * capabilities.words_to_sounds
        bundles = ", ".join(bundle.id for bundle in list_bundles(models_dir, profile.name))
        dims = profile.dims
        table.add_row(
            profile.name,
            str(dims.vision),
            str(dims.sentence),
            str(dims.audio),
            "\n".join(able),
            bundles or "not exported",
            profile.summary,
        )
    Console().print(table)
