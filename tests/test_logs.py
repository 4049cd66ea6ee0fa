import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.logs import JsonLines, current_request_id


def formatted(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": message, **extra})
    return JsonLines().format(record)


@given(st.text())
def test_nothing_in_a_message_makes_a_second_line(text: str) -> None:
    line = formatted("%s", args=(text,), extra_field=text)
    assert "\n" not in line
    told = json.loads(line)
    assert told["message"] == told["extra_field"] == text


def test_a_line_carries_the_id_of_its_request() -> None:
    token = current_request_id.set("abc")
    told = json.loads(formatted("hello"))
    current_request_id.reset(token)
    assert told["request_id"] == "abc"
    assert "request_id" not in json.loads(formatted("hello"))


def test_a_traceback_stays_on_the_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        line = formatted("failed", exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: broken" in json.loads(line)["traceback"]
    assert "\n" not in line
