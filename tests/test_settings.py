import msgspec
import pytest

from gateway.errors import ConfigurationError
from gateway.search.rerank import MAX_PIX_WEIGHT, PixLaw
from gateway.settings import Settings, settings_from_environment, settings_to_environment


def test_settings_travel_through_the_environment() -> None:
    settings = Settings(port=18_080, pix_weight=0.3, database="sqlite:////elsewhere.db")
    assert settings_from_environment(settings_to_environment(settings)) == settings


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PIXSERVE_PIX_WEIGHT", "3", "<= 0.5, got '3'"),
        ("PIXSERVE_PIX_WEIGHT", "-0.1", ">= 0"),
        ("PIXSERVE_PIX_CAP", "0", ">= 1"),
        ("PIXSERVE_PIX_CAP", "many", "`int`, got 'many'"),
        ("PIXSERVE_PORT", "70000", "<= 65535"),
        ("PIXSERVE_SEARCH_DEADLINE_MS", "0", ">= 1"),
        ("PIXSERVE_SEGMENT_S", "0", "> 0"),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused_by_its_variable(
    name: str, value: str, told: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        settings_from_environment({name: value})
    assert raised.value.message.startswith(f"{name}: ")
    assert told in raised.value.message


def test_an_unknown_setting_is_refused_with_the_one_that_is_meant() -> None:
    with pytest.raises(ConfigurationError, match="did you mean PIXSERVE_PIX_WEIGHT"):
        settings_from_environment({"PIXSERVE_PIX_WEIGTH": "0.1"})
    with pytest.raises(ConfigurationError, match="there is no setting PIXSERVE_QQQ"):
        settings_from_environment({"PIXSERVE_QQQ": "0.1"})


def test_the_settings_bound_of_the_pix_weight_is_the_laws() -> None:
    PixLaw(MAX_PIX_WEIGHT, 1)
    assert msgspec.convert({"pix_weight": MAX_PIX_WEIGHT}, Settings).pix_weight == MAX_PIX_WEIGHT
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"pix_weight": MAX_PIX_WEIGHT + 0.01}, Settings)


def test_settings_show_no_password() -> None:
    shown = repr(Settings(database="postgresql://me:secret@db/x", milvus="http://me:secret@m:1"))
    assert "secret" not in shown
