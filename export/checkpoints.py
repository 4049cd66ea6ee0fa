"""Where weights come from: a local folder, an installed package, or the hub."""

import hashlib
import importlib.util
from pathlib import Path

from export.profiles import Checkpoint
from gateway.errors import ConfigurationError

HASH_BLOCK_BYTES = 1 << 20


def find_checkpoint(name: str, checkpoint: Checkpoint, folder: Path | None) -> Path:
    """Return a folder that holds a checkpoint's files.

    Args:
        name: the model's name, for messages.
        checkpoint: the profile's row.
        folder: the user's own folder; where given, only this is looked at.

    Raises:
        ConfigurationError: none of the places has the files; says which to put where.
    """
    if folder is not None:
        return _checked(name, folder, checkpoint)
    package = _package_folder(checkpoint.package)
    if package is not None:
        return _checked(name, package, checkpoint)
    return _download(name, checkpoint)


def content_hash(folder: Path, names: tuple[str, ...]) -> str:
    """Return the SHA-256 over the named files' contents, in their order."""
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _checked(name: str, folder: Path, checkpoint: Checkpoint) -> Path:
    missing = [file for file in checkpoint.files if not (folder / file).is_file()]
    if missing:
        raise ConfigurationError(
            f"the checkpoint of {name} in {folder} lacks {', '.join(missing)}; expected "
            f"{', '.join(checkpoint.files)}"
        )
    return folder


def _package_folder(package: str | None) -> Path | None:
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def _download(name: str, checkpoint: Checkpoint) -> Path:
    """Fetch from the hub. Unverified where no hub can be reached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                str(checkpoint.hub),
                revision=checkpoint.revision,
                allow_patterns=list(checkpoint.files),
            )
        )
    except Exception as error:
        package = f", or install the package {checkpoint.package}" if checkpoint.package else ""
        raise ConfigurationError(
            f"no weights for {name}: {checkpoint.hub} could not be fetched "
            f"({type(error).__name__}). Put {', '.join(checkpoint.files)} into a folder and pass "
            f"--checkpoint {name}=FOLDER{package}"
        ) from error
