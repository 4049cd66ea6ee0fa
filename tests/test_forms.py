from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.forms import MemoryField, is_multipart, read_form
from gateway.errors import InvalidRequest, TooLarge

pytestmark = pytest.mark.anyio

BOUNDARY = "a-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, str | None, bytes], end: str = "--\r\n") -> bytes:
    body = b""
    for name, filename, data in parts:
        told = f'; filename="{filename}"' if filename is not None else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    return body + f"--{BOUNDARY}{end}".encode()


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(
    body: bytes, *names: str, size: int = 7, content_type: str = CONTENT_TYPE, limit: int = 10_000
) -> dict[str, MemoryField]:
    fields = {name: MemoryField(name, limit) for name in names}
    await read_form(pieces(body, size), content_type, fields, 50_000)
    return fields


@given(data=st.binary(max_size=300), size=st.integers(min_value=1, max_value=64))
async def test_any_bytes_arrive_whole_in_any_pieces(data: bytes, size: int) -> None:
    fields = await read(form(("a", "x.bin", data)), "a", size=size)
    assert fields["a"].data == data
    assert fields["a"].filename == "x.bin"


@pytest.mark.parametrize("name", ["filename", "name"])
async def test_a_header_that_is_not_utf8_is_refused_without_the_parsers_own_words(
    name: str,
) -> None:
    body = form(("a", "NAME", b"data")).replace(
        b"NAME" if name == "filename" else b'"a"', b'"\xff"'
    )
    with pytest.raises(InvalidRequest) as refused:
        await read(body, "a", size=100)
    assert "failed to decode" in str(refused.value)
    assert "UnicodeDecodeError" not in str(refused.value)


async def test_parts_come_in_any_order_and_may_be_missing() -> None:
    fields = await read(form(("b", None, b"2"), ("a", None, b"1")), "a", "b", "c")
    assert [field.data for field in fields.values()] == [b"1", b"2", b""]
    assert [field.given for field in fields.values()] == [True, True, False]


@pytest.mark.parametrize("name", ["z", "a"])
async def test_an_unknown_or_repeated_part_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}'.*known: a"):
        await read(form(("a", None, b"1"), (name, None, b"2")), "a")


async def test_a_part_over_its_limit_is_refused_by_name() -> None:
    with pytest.raises(TooLarge, match="a: over its limit of 5 bytes"):
        await read(form(("a", None, b"123456")), "a", limit=5)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=",
    ],
)
async def test_a_body_that_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="expected multipart/form-data"):
        await read(b"", "a", content_type=content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of a form at all, but a good deal of it",
        form(("a", None, b"1"), end=""),
        form(("a", None, b"1"))[:-12],
        f"--{BOUNDARY}\r\nno colon\r\n\r\nx\r\n--{BOUNDARY}--".encode(),
        f"--{BOUNDARY}\r\n{'X' * 10_000}: y\r\n\r\nx\r\n--{BOUNDARY}--".encode(),
    ],
)
async def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a complete multipart form"):
        await read(body, "a")


@pytest.mark.parametrize("around", [b"{}" * 30_000 + b"%s", b"%s" + b"{}" * 30_000])
async def test_endless_bytes_around_the_parts_are_refused(around: bytes) -> None:
    with pytest.raises(TooLarge, match="the body is over its limit of 50,000 bytes"):
        await read(around.replace(b"%s", form(("a", None, b"1"))), "a", size=1_000)


async def test_a_form_of_endless_parts_is_refused() -> None:
    names = [f"f{number}" for number in range(20)]
    with pytest.raises(InvalidRequest, match="Maximum segment count"):
        await read(form(*((name, None, b"") for name in names)), *names)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=x", True),
        ("Multipart/Form-Data;boundary=x", True),
        ("application/json", False),
        ("", False),
    ],
)
def test_forms_are_told_by_their_content_type(content_type: str, expected: bool) -> None:
    assert is_multipart(content_type) is expected
