"""Where weights come from: a local folder, an installed package, or the hub."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import msgspec

from export.profile_rows import TOKENIZER, WEIGHTS, Checkpoint, Profile
from export.profiles import SENTENCE_MODELS
from gateway.errors import ConfigurationError, InvalidRequest

HASH_BLOCK_BYTES = 1 << 20
STAND_IN = SENTENCE_MODELS["fast"].checkpoint  # whose tokenizer random weights make do with


class Places(msgspec.Struct, frozen=True):
    """What the user says about where weights are, by the name of the model."""

    folders: Mapping[str, Path] = {}
    revisions: Mapping[str, str] = {}  # of the hub


NOWHERE = Places()


class Sources(msgspec.Struct, frozen=True):
    """The folders that an export reads, by the name of the model."""

    weights: Mapping[str, Path]  # a model that is missing here is built with random weights
    tokenizers: Mapping[str, Path]  # `sentence` always; without `clip`, its tokens are bytes


def find_sources(profile: Profile, places: Places, random_weights: bool) -> Sources:
    """Return where an export's weights and tokenizers are.

    Args:
        profile: what is exported.
        places: what the user says.
        random_weights: no weights are needed; a tokenizer that is not at hand is stood in for.

    Raises:
        InvalidRequest: `places` names a model that the profile has not.
        ConfigurationError: files are missing; one message says which to put where, for all models.
    """
    for name in (*places.folders, *places.revisions):
        if name not in profile.checkpoints:
            raise InvalidRequest(
                f"the profile {profile.name} takes no checkpoint for {name!r}; it takes: "
                f"{', '.join(profile.checkpoints)}"
            )
    if not random_weights:
        folders = profile.own_weights | find_checkpoints(profile, places)
        return Sources(folders, folders)
    tokenizers = profile.own_weights | {"sentence": find_checkpoint("sentence", STAND_IN)}
    return Sources({}, tokenizers | _tokenizer_folders(places.folders))


def find_checkpoints(profile: Profile, places: Places) -> dict[str, Path]:
    """Return the folders of all checkpoints of a profile; raises one error for all models."""
    found, problems = {}, []
    for name, checkpoint in profile.checkpoints.items():
        try:
            found[name] = find_checkpoint(name, checkpoint, places)
        except ConfigurationError as error:
            problems.append(error)
    if problems:
        raise ConfigurationError("\n".join(map(str, problems))) from problems[0]
    return found


def _tokenizer_folders(folders: Mapping[str, Path]) -> dict[str, Path]:
    for name, folder in folders.items():
        if not (folder / TOKENIZER).is_file():
            raise ConfigurationError(
                f"{folder} lacks {TOKENIZER}, all that random weights of {name} need"
            )
    return dict(folders)


def find_checkpoint(name: str, checkpoint: Checkpoint, places: Places = NOWHERE) -> Path:
    """Return a folder that holds a checkpoint's files.

    Args:
        name: the model's name, for messages.
        checkpoint: the profile's row.
        places: the user's; a folder named there is the only one that is looked at.

    Raises:
        ConfigurationError: none of the places has the files; says which to put where.
    """
    if name in places.folders:
        return _checked(name, places.folders[name], checkpoint)
    revision = places.revisions.get(name)
    package = _package_folder(checkpoint.package)
    if package is not None and revision is None:
        return _checked(name, package, checkpoint)
    return _download(name, checkpoint, revision or checkpoint.revision)


def checkpoint_files(folder: Path, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of a checkpoint's files: those that it must have, and its weights."""
    return (*checkpoint.files, _weights(folder))


def content_hash(folder: Path, names: tuple[str, ...]) -> str:
    """Return the SHA-256 over the named files' contents, in their order."""
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _weights(folder: Path) -> str:
    """Return the file of weights that is there; the first of WEIGHTS where none is."""
    return next((name for name in WEIGHTS if (folder / name).is_file()), WEIGHTS[0])


def _checked(name: str, folder: Path, checkpoint: Checkpoint) -> Path:
    missing = [
        file for file in checkpoint_files(folder, checkpoint) if not (folder / file).is_file()
    ]
    if missing:
        raise ConfigurationError(
            f"the checkpoint of {name} in {folder} lacks {', '.join(missing)}; expected "
            f"{_file_list(checkpoint)}"
        )
    return folder


def _file_list(checkpoint: Checkpoint) -> str:
    return f"{', '.join(checkpoint.files)} and {' or '.join(WEIGHTS)}"


def _package_folder(package: str | None) -> Path | None:
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def _download(name: str, checkpoint: Checkpoint, revision: str | None) -> Path:
    """Fetch one revision from the hub. Unverified where no hub can be reached."""
    if revision is None:
        raise ConfigurationError(_advice(name, checkpoint, "no revision is pinned"))
    from huggingface_hub import snapshot_download

    patterns = [*checkpoint.files, *WEIGHTS]
    try:
        folder = snapshot_download(checkpoint.hub, revision=revision, allow_patterns=patterns)
    except Exception as error:
        problem = f"it could not be fetched ({type(error).__name__})"
        raise ConfigurationError(_advice(name, checkpoint, problem)) from error
    return _checked(name, Path(folder), checkpoint)


def _advice(name: str, checkpoint: Checkpoint, problem: str) -> str:
    package = f", or install the package {checkpoint.package}" if checkpoint.package else ""
    return (
        f"no weights for {name}: {checkpoint.hub}: {problem}. Put {_file_list(checkpoint)} into a "
        f"folder and pass --checkpoint {name}=FOLDER, or a commit of the hub: "
        f"--revision {name}=COMMIT{package}"
    )
