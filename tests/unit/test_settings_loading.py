"""Where settings come from, which wins, and what a mistake is told."""

import dataclasses

import pytest

from heatshield.settings import ServiceSettings, SettingsError, load
from heatshield_collector.settings import CollectorSettings


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "heatshield.toml"
        path.write_text(text)
        return path

    return write


def test_flags_beat_environment_beats_file_beats_default(toml):
    path = toml('[service]\nservice = "file"\ntenant = "file"\nendpoint = "http://file:1"\n')
    found = load(
        ServiceSettings,
        flags={"service": "flag"},
        environ={"HEATSHIELD_SERVICE": "environment", "HEATSHIELD_TENANT": "environment"},
        file=path,
    )
    assert (found.service, found.tenant, found.endpoint) == ("flag", "environment", "http://file:1")
    assert found.workers == ServiceSettings().workers


def test_a_flag_of_none_was_not_given():
    assert load(ServiceSettings, flags={"service": None}, environ={}).service == ""


@pytest.mark.parametrize(
    ("flags", "environ", "text", "near"),
    [
        ({"endpont": "x"}, {}, "", "endpoint"),
        ({}, {"HEATSHIELD_WORKRES": "2"}, "", "HEATSHIELD_WORKERS"),
        ({}, {}, "[service]\nuser_heder = 'x'\n", "user_header"),
        ({}, {}, "[servce]\n", "service"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(toml, flags, environ, text, near):
    with pytest.raises(SettingsError, match=f"did you mean '{near}'"):
        load(ServiceSettings, flags=flags, environ=environ, file=toml(text))


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"HEATSHIELD_ENFORCE": "no"}, "enforce", False),
        ({"HEATSHIELD_WORKERS": "4"}, "workers", 4),
        ({"HEATSHIELD_FLUSH_INTERVAL_S": "0.5"}, "flush_interval_s", 0.5),
        ({"HEATSHIELD_DISABLED": "redis, httpx"}, "disabled", ("redis", "httpx")),
        ({"HEATSHIELD_B3": "single"}, "b3", "single"),
    ],
)
def test_environment_values_take_the_type_of_their_field(environ, field, value):
    assert getattr(load(ServiceSettings, environ=environ), field) == value


@pytest.mark.parametrize(
    "environ",
    [
        {"HEATSHIELD_WORKERS": "many"},
        {"HEATSHIELD_ENFORCE": "perhaps"},
        {"HEATSHIELD_B3": "triple"},
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_that_names_it(environ):
    (key,) = environ
    with pytest.raises(SettingsError, match=key.removeprefix("HEATSHIELD_").lower()):
        load(ServiceSettings, environ=environ)


@pytest.mark.parametrize(
    ("cls", "section", "name", "value", "span"),
    [
        (ServiceSettings, "service", "workers", "0", "from 1 to 4096"),
        (ServiceSettings, "service", "workers", "4097", "from 1 to 4096"),
        (ServiceSettings, "service", "flush_interval_s", "nan", "from 0.001 to 3600"),
        (ServiceSettings, "service", "export_timeout_s", "0", "from 0.01 to 600"),
        (CollectorSettings, "collector", "queue_mib", "0", "from 1 to 65536"),
        (CollectorSettings, "collector", "retention_hours", "0", "from 0.001 to 87600"),
        (CollectorSettings, "collector", "cold_start_s", "inf", "from 0 to 86400"),
        (CollectorSettings, "collector", "hot_share", "1.5", "from 0.001 to 1"),
        (CollectorSettings, "collector", "hot_ratio", "0.5", "from 1 to 1000000"),
        (CollectorSettings, "collector", "hot_floor", "-0.1", "from 0 to 4096"),
    ],
)
def test_a_number_out_of_its_range_is_an_error_that_says_the_range(cls, section, name, value, span):
    with pytest.raises(SettingsError, match=f"{name} is {span}, not"):
        load(cls, section, flags={name: value}, environ={})


def test_the_bounds_of_a_range_are_in_it():
    flags = {"hot_floor": 0, "hot_share": 1, "hot_ratio": 1, "cold_start_s": 0}
    found = load(CollectorSettings, "collector", flags=flags, environ={})
    assert (found.hot_floor, found.hot_share, found.hot_ratio, found.cold_start_s) == (0, 1, 1, 0)


def test_an_infinite_whole_number_is_an_error_like_any_other():
    with pytest.raises(SettingsError, match="workers"):
        load(ServiceSettings, flags={"workers": float("inf")}, environ={})


@pytest.mark.parametrize("cls", [ServiceSettings, CollectorSettings])
def test_every_number_has_a_range_and_its_default_is_in_it(cls):
    for field in dataclasses.fields(cls):
        if field.type in (int, float):
            assert field.metadata["least"] <= field.default <= field.metadata["most"], field.name


def test_settings_of_another_section_are_left_to_it():
    assert load(ServiceSettings, environ={"HEATSHIELD_COLLECTOR_DATA": "x"}) == ServiceSettings()


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(SettingsError, match="missing"):
        load(ServiceSettings, environ={}, file=tmp_path / "missing.toml")


def test_a_file_that_is_no_toml_is_an_error(toml):
    with pytest.raises(SettingsError):
        load(ServiceSettings, environ={}, file=toml("]["))
