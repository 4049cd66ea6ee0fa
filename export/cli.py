"""`pixserve export` and `pixserve profiles`."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from export.parity import EncoderReport, Likeness
    from export.profile_rows import Profile

Pairs = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("profiles")(profiles)


def export(
    profile: Annotated[str, typer.Option(help="Which row of `pixserve profiles`.")] = "mini",
    sentence: Annotated[
        str, typer.Option(help="Another sentence model: fast, balanced, quality …")
    ] = "",
    vision: Annotated[str, typer.Option(help="Another model of words and pixels: siglip2.")] = "",
    sound: Annotated[
        str, typer.Option(help="Another sound model: clap, whose texts find sounds.")
    ] = "",
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32; fp16, for GPUs; auto or int8: int8 where it is as good. By default the "
            "profile's, or fp16 with --target gpu."
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="cpu, or gpu for CUDA and TensorRT.")] = "cpu",
    data_dir: Annotated[Path, typer.Option(help="The data folder.")] = Path("pixserve-data"),
    checkpoint: Annotated[
        Pairs,
        typer.Option(help="MODEL=FOLDER: take a model's weights from a local folder. Repeatable."),
    ] = None,
    revision: Annotated[
        Pairs, typer.Option(help="MODEL=COMMIT: of the hub, where none is pinned. Repeatable.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option(help="The true architecture without training, for benchmarks.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Export although nothing has changed.")] = False,
) -> None:
    """Export a profile's models as a new bundle that the stack can serve.

    Nothing is done where weights and code are those of the newest bundle.
    """
    from typing import get_args

    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from export.build import ExportTarget, Order, export_bundle, read_reports
    from export.checkpoints import Places
    from export.profile_rows import PRECISIONS
    from export.profiles import find_profile
    from gateway.errors import InvalidRequest

    if precision not in (None, *PRECISIONS):
        raise InvalidRequest(f"--precision takes {', '.join(PRECISIONS)}, not {precision!r}")
    if target not in get_args(ExportTarget):
        raise InvalidRequest(f"--target takes {', '.join(get_args(ExportTarget))}, not {target!r}")
    name = find_profile("-".join(filter(None, (profile, vision, sound, sentence)))).name
    folders = {model: Path(folder) for model, folder in _pairs("checkpoint", checkpoint).items()}
    places = Places(folders, _pairs("revision", revision))
    order = msgspec.convert(
        {
            "precision": precision,
            "target": target,
            "random_weights": random_weights,
            "force": force,
        },
        Order,
    )
    order = msgspec.structs.replace(order, places=places)
    models_dir = data_dir.expanduser().resolve() / "models"
    with Progress(transient=True) as bar:
        task = bar.add_task("export", total=None)
        bundle = export_bundle(
            name,
            models_dir,
            lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
            order,
        )
    Console().print(_report_table(read_reports(models_dir, bundle)))
    allow = " --allow-random-weights" if bundle.random_weights else ""
    typer.echo(f"{bundle.id} is exported; serve it with: pixserve up --profile {name}{allow}")


def _pairs(option: str, values: Pairs) -> dict[str, str]:
    from gateway.errors import InvalidRequest

    pairs = {}
    for value in values or []:
        model, separator, rest = value.partition("=")
        if not (model and separator and rest):
            raise InvalidRequest(f"--{option} takes MODEL={option.upper()}, not {value!r}")
        pairs[model] = rest
    return pairs


def _report_table(reports: "list[EncoderReport]") -> "Table":
    from rich.table import Table

    table = Table("model", "served", "MB", "fp32 / torch", "cut / padded", "tried / fp32",
                  "neighbours kept", "why",
                  caption="least cosines; of int8 and fp16 the mean")  # fmt: skip
    for report in reports:
        table.add_row(
            report.model,
            report.precision,
            f"{report.megabytes:.0f}",
            _cosine(report.fp32),
            _cosine(report.padding),
            f"{coarser.mean_cosine:.5f}" if (coarser := report.int8 or report.fp16) else "",
            f"{report.overlap:.1%}" if report.overlap is not None else "",
            report.verdict,
        )
    return table


def _cosine(likeness: "Likeness | None") -> str:
    return f"{likeness.least_cosine:.6f}" if likeness else ""


def profiles(
    data_dir: Annotated[Path, typer.Option(help="The data folder.")] = Path("pixserve-data"),
) -> None:
    """List the profiles: sizes, what each can do, and which bundles are exported."""
    from rich.console import Console
    from rich.table import Table

    from export.profiles import PROFILES, SENTENCE_MODELS, SOUND_MODELS, VISION_MODELS

    models_dir = data_dir.expanduser().resolve() / "models"
    table = Table("profile", "words and pixels", "sentence", "sound", "can compare", "bundles",
                  "for", caption="dimensions of the vectors after the names")  # fmt: skip
    for profile in (*PROFILES.values(), *_exported_variants(models_dir)):
        _add_row(table, profile, models_dir)
    others = Table("option", "model", "dimensions", "tokens", "what it brings",
                   caption="models to take instead of a profile's own")  # fmt: skip
    for name, clip in VISION_MODELS.items():
        others.add_row(f"--vision {name}", clip.title, str(clip.width), str(clip.tokens),
                       "words↔frames")  # fmt: skip
    for name, audio in SOUND_MODELS.items():
        others.add_row(f"--sound {name}", audio.title, str(audio.width), str(audio.text_tokens),
                       "words↔sounds")  # fmt: skip
    for name, model in SENTENCE_MODELS.items():
        prefixes = " | ".join(filter(None, (model.query_prefix, model.passage_prefix)))
        others.add_row(f"--sentence {name}", model.title, str(model.width), str(model.tokens),
                       f"prefixes: {prefixes}" if prefixes else "")  # fmt: skip
    console = Console()
    console.print(table)
    console.print(others)


def _exported_variants(models_dir: Path) -> "list[Profile]":
    """Return the profiles that bundles were exported of and that are no rows of the table."""
    from export.profiles import PROFILES, find_profile
    from gateway.errors import InvalidRequest

    found = []
    for folder in sorted(models_dir.glob("*-*/bundles")):
        with suppress(InvalidRequest):  # of another version of pixserve
            found.append(find_profile(folder.parent.name))
    return [profile for profile in found if profile.name not in PROFILES]


def _add_row(table: "Table", profile: "Profile", models_dir: Path) -> None:
    from ensembles.bundle import bundle_folder, list_bundles

    capabilities = profile.capabilities
    able = ["words↔speech", "image↔frames", "sound↔sounds"]
    able += ["words↔frames"] * capabilities.words_to_pixels
    able += ["words↔sounds"] * capabilities.words_to_sounds
    bundles = []
    for bundle in list_bundles(models_dir, profile.name):
        folder = bundle_folder(models_dir, profile.name, bundle.version)
        size = sum(file.stat().st_size for file in folder.rglob("*")) / 1_000_000
        marks = ", random weights" * bundle.random_weights
        bundles.append(f"{bundle.id}: {size:.0f} MB{marks}")
    table.add_row(
        profile.name,
        f"{profile.clip.title}, {profile.clip.width}",
        f"{profile.sentence.title}, {profile.sentence.width}",
        f"{profile.audio.title}, {profile.audio.width}",
        "\n".join(able),
        "\n".join(bundles) or "not exported",
        profile.summary,
    )
