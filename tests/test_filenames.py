import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.filenames import MEDIA_SUFFIXES, safe_suffix


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.mp4", ".mp4"),
        ("A.MKV", ".mkv"),
        ("../../x.webm", ".webm"),
        ("..\\..\\x.mov", ".mov"),
        ("../../x", ".bin"),
        ("a.mp4/../../etc/passwd", ".bin"),
        ("a.exe", ".bin"),
        ("a.mp4\0.sh", ".bin"),
        (".mp4", ".bin"),
        ("", ".bin"),
    ],
)
def test_of_a_name_only_a_known_suffix_is_used(name: str, suffix: str) -> None:
    assert safe_suffix(name, MEDIA_SUFFIXES, ".bin") == suffix


@given(st.text())
def test_no_name_gives_anything_else(name: str) -> None:
    assert safe_suffix(name, MEDIA_SUFFIXES, ".bin") in MEDIA_SUFFIXES | {".bin"}
