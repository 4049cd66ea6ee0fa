"""The settings of commands that work on a stack's data folder, beside its running parts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.state import PartState, StackState, hold, now, write_state
from gateway.commands.local import local_settings
from gateway.errors import ConfigurationError

SHOWN = "http://milvus.example:19530"  # as a stack shows it: without the password
WITH_PASSWORD = "http://root:secret@milvus.example:19530"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a stack that uses a Milvus elsewhere."""
    with hold(tmp_path / "run"):
        parts = (
            PartState(name="triton", state="ready", address="127.0.0.1:1", since=now()),
            PartState(name="milvus", state="external", address=SHOWN, since=now()),
        )
        state = StackState(pid=1, profile="base", address="http://x", since=now(), parts=parts)
        write_state(tmp_path / "run", state)
        yield tmp_path


def test_a_running_stack_tells_profile_and_addresses(stack: Path) -> None:
    found = local_settings(stack)
    assert (found.profile, found.triton, found.milvus) == ("base", "127.0.0.1:1", SHOWN)


def test_the_password_of_a_milvus_elsewhere_comes_from_the_environment(
    stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXSERVE_MILVUS", WITH_PASSWORD)
    assert local_settings(stack).milvus == WITH_PASSWORD


def test_where_no_stack_runs_the_environment_must_name_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="pixserve up --detach"):
        local_settings(tmp_path)
    monkeypatch.setenv("PIXSERVE_MILVUS", WITH_PASSWORD)
    assert local_settings(tmp_path).milvus == WITH_PASSWORD
