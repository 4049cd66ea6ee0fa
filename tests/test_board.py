import pytest

from deploy.board import show_table
from deploy.state import PartState, StackState, now


def test_the_table_is_whole_in_a_pipe_and_tells_of_restarts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    address = "https://milvus.a-very-long-name-of-a-cluster.example.org:19530"
    parts = (
        PartState(name="milvus", state="external", address=address, since="2020-02-03T12:05:06Z"),
        PartState(name="worker", state="ready", since=now(), restarts=1),
        PartState(name="gateway", state="restarting", since=now(), restarts=2, detail="killed"),
    )
    show_table(StackState(pid=1, profile="mini", address="http://x", since=now(), parts=parts))
    said = capsys.readouterr().out
    assert address in said
    assert "2020-02-03" in said
    assert "worker: restarted once\n" in said
    assert "gateway: restarted 2 times; killed\n" in said
