"""Whether two bundles make the same tokens, so that one can use what the other made."""

import filecmp
from pathlib import Path

from ensembles.bundle import Bundle, bundle_folder

ENCODERS = ("tokenize", "clip_text", "clip_vision", "sentence", "wav2vec2")  # what tokens depend on


def same_encoders(one: Bundle, other: Bundle, models_dir: Path) -> bool:
    """Say whether two bundles make the same tokens, by the contents of their files.

    Args:
        one: a bundle.
        other: another one, or the same.
        models_dir: where both are.
    """
    folders = [bundle_folder(models_dir, bundle.profile, bundle.version) for bundle in (one, other)]
    return one.dims == other.dims and all(
        _same_files(folders[0] / model, folders[1] / model) for model in ENCODERS
    )


def _same_files(one: Path, other: Path) -> bool:
    names = sorted(file.name for file in one.glob("*"))
    if names != sorted(file.name for file in other.glob("*")):
        return False
    return all(
        (one / name).samefile(other / name) or filecmp.cmp(one / name, other / name, shallow=False)
        for name in names
    )
