from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from pixelmill.cli.settings import api_settings, service_config
from pixelmill.config import PREFIX, SETTINGS, TABLE, load, parse_assignments
from pixelmill.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    (tmp_path / "pixelmill.toml").write_text("port = 1\nworkers = 1\nmax_side = 1\n")
    environ = {"PIXELMILL_PORT": "2", "PIXELMILL_WORKERS": "2"}
    settings = load({"port": "3"}, environ, folder=tmp_path)
    assert (settings["port"], settings["workers"], settings["max_side"], settings["drain"]) == (3, 2, 1, 30.0)
    assert settings.sources["port"] == "flag --port"
    assert settings.sources["workers"] == "variable PIXELMILL_WORKERS"
    assert settings.sources["max_side"] == f"file {tmp_path / 'pixelmill.toml'}"
    assert settings.sources["drain"] == "default"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("timeout", "90", 90.0),
        ("timeout", "1.5m", 90.0),
        ("retention", "7d", 604_800.0),
        ("drain", "250ms", 0.25),
        ("max_bytes", "100MB", 100_000_000),
        ("max_bytes", "1KiB", 1024),
        ("max_pixels", "1_000", 1000),
        ("insecure", "yes", True),
        ("insecure", "off", False),
        ("allowed_hosts", "a.example, b.example", ("a.example", "b.example")),
        ("source_roots", f"/a{os.pathsep}/b", (Path("/a"), Path("/b"))),
    ],
)
def test_values_are_read_with_their_units(name: str, text: str, value: object) -> None:
    assert load({}, {PREFIX + name.upper(): text})[name] == value


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.name)
def test_a_default_that_is_written_down_reads_back_as_itself(setting: object) -> None:
    row = SETTINGS[setting.name]  # type: ignore[attr-defined]  # parametrize gives object
    if row.default in ((), "", None):
        return
    assert load({row.name: row.show(row.default)}, {})[row.name] == row.default


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "http"),
        ("port", "70000"),
        ("port", "-1"),
        ("timeout", "5w"),
        ("timeout", "0"),
        ("max_bytes", "10 apples"),
        ("insecure", "maybe"),
        ("log_format", "xml"),
        ("data", " "),
        ("workers", "1e3"),
        ("retention", "9" * 400),
    ],
)
def test_a_wrong_value_is_refused_with_flag_variable_format_and_value(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, {PREFIX + name.upper(): text})
    message = str(caught.value)
    assert text in message
    assert PREFIX + name.upper() in message
    assert (SETTINGS[name].flag or f"--set {name}") in message
    assert SETTINGS[name].format in message


def test_unknown_names_are_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_PORT"):
        load({}, {"PIXELMILL_PROT": "1"})
    file = tmp_path / "other.toml"
    file.write_text("max_bites = 3\n")
    with pytest.raises(ConfigError, match="max_bytes"):
        load({}, {}, file=file)
    with pytest.raises(ConfigError, match="timeout"):
        load(parse_assignments(["time-out=3"]), {})


def test_a_secret_is_never_shown() -> None:
    setting = SETTINGS["token"]
    assert "abc" not in setting.show("pm_abc")


@pytest.mark.parametrize("text", ["port = = 3", "port = {a = 1}", "port = [1]", "port = true"])
def test_a_file_that_is_not_of_the_right_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pixelmill.toml").write_text(text)
    with pytest.raises(ConfigError):
        load({}, {}, folder=tmp_path)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load({}, {}, file=tmp_path / "absent.toml")


def test_lists_in_the_file_are_lists(tmp_path: Path) -> None:
    (tmp_path / "pixelmill.toml").write_text('source_roots = ["/a", "/b c"]\nallowed_hosts = ["x"]\n')
    settings = load({}, {}, folder=tmp_path)
    assert settings["source_roots"] == (Path("/a"), Path("/b c"))
    assert settings["allowed_hosts"] == ("x",)


TARGET = {"name": "run", "url": "https://a.run.app", "auth": "bearer", "token": "s3cret", "price_per_second": 0.0001}


def test_overflow_tables_come_from_the_file_or_as_json_and_hide_their_tokens(tmp_path: Path) -> None:
    (tmp_path / "pixelmill.toml").write_text(
        'overflow_budget_day = 5\n[[overflow]]\nname = "run"\nurl = "https://a.run.app"\nauth = "bearer"\n'
        'token = "s3cret"\nprice_per_second = 0.0001\n'
    )
    of_file = load({"data": "/x"}, {}, folder=tmp_path)
    variables = {"PIXELMILL_OVERFLOW": json.dumps([TARGET]), "PIXELMILL_OVERFLOW_BUDGET_DAY": "5"}
    of_variable = load({"data": "/x"}, variables)
    assert service_config(of_file) == service_config(of_variable)
    (target,) = service_config(of_file).overflow.targets
    assert (target.url, target.token, target.price.per_second) == ("https://a.run.app", "s3cret", 0.0001)
    assert service_config(of_file).overflow.budgets == {"day": 5.0}
    assert "s3cret" not in SETTINGS["overflow"].show(of_file["overflow"])
    assert "s3cret" not in repr(target)


def test_money_needs_a_bound_unless_one_says_that_there_is_none() -> None:
    one = {"data": "/x", "overflow": [TARGET]}
    with pytest.raises(ConfigError, match="budget"):
        service_config(load(one, {}))
    assert service_config(load({**one, "overflow_budget_hour": "unlimited"}, {})).overflow.budgets == {}
    free = {"data": "/x", "overflow": [{"name": "own", "url": "http://10.0.0.1"}]}
    assert service_config(load(free, {})).overflow.targets


def test_patience_is_a_time_or_never() -> None:
    after = {"overflow_after_interactive": "never", "overflow_after_batch": "1h"}
    latency = service_config(load({"data": "/x", **after}, {})).overflow.latency_s
    assert {priority.value: seconds for priority, seconds in latency.items()} == {"normal": 30.0, "batch": 3600.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "No Good"}, "name"),
        ({"name": "local"}, "local"),
        ({"url": "a.run.app"}, "url"),
        ({"url": "http://a.run.app"}, "https"),
        ({"url": "https://user@a.run.app"}, "url"),
        ({"function": "f"}, "either"),
        ({"auth": "basic"}, "auth"),
        ({"auth": "none"}, "token"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"timeout": 30}, "above the time limit"),
        ({"price_per_call": -1}, "price_per_call"),
        ({"price_per_call": "cheap"}, "price_per_call"),
        ({"links": "yes"}, "links"),
        ({"pryce": 1}, "pryce"),
        ({"token": 5}, "token"),
    ],
)
def test_wrong_overflow_tables_are_refused_and_say_why(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        service_config(load({"data": "/x", "overflow": [{**TARGET, **change}], "overflow_budget_day": "5"}, {}))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", '{"name": "x"}', "[1]", "s3cret"])
def test_what_is_no_list_of_tables_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_OVERFLOW") as caught:
        load({}, {"PIXELMILL_OVERFLOW": text})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["-1", "lots", "inf", "nan", "1e999"])
def test_wrong_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        load({"overflow_budget_day": text}, {})


def test_the_data_folder_follows_xdg() -> None:
    assert load({}, {"XDG_DATA_HOME": "/srv/data"})["data"] == Path("/srv/data/pixelmill")
    assert load({}, {"XDG_DATA_HOME": "relative"})["data"] == Path.home() / ".local/share/pixelmill"
    assert load({"data": "/x"}, {"XDG_DATA_HOME": "/srv/data"})["data"] == Path("/x")


def test_defaults_agree_with_those_of_the_parts() -> None:
    settings = load({"data": "/x"}, {})
    service = service_config(settings)
    assert service == type(service)(data=Path("/x"))
    api = api_settings(settings)
    assert api == type(api)()
    assert dataclasses.is_dataclass(api)


def test_the_page_on_configuration_shows_the_table() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, flags=re.MULTILINE))
    assert list(rows) == [setting.name for setting in TABLE]
    for setting in TABLE:
        flag = f"`{setting.flag}`" if setting.flag else ""
        default = f"`{setting.show(setting.default)}`" if setting.default not in ((), "", None) else ""
        assert rows[setting.name] == f"{flag} | {default} | {setting.format} | {setting.doc}"
