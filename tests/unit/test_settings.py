"""Settings: from where they come, and what is refused in words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.errors import Misconfigured
from limner.settings import Settings, is_loopback


def test_what_is_given_goes_before_the_environment(tmp_path: Path) -> None:
    env = {"LIMNER_PORT": "9000", "LIMNER_HOST": "127.0.0.2", "LIMNER_DATA_DIR": str(tmp_path)}
    settings = Settings.from_env(env, port=9001)
    assert (settings.host, settings.port) == ("127.0.0.2", 9001)


def test_everything_lies_in_the_data_directory_unless_said_otherwise(tmp_path: Path) -> None:
    settings = Settings.from_env({}, data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/db.sqlite"
    assert settings.store_url == f"file://{tmp_path}/blobs"
    assert settings.models == (tmp_path / "models",)


def test_settings_survive_the_way_to_a_child_process(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {},
        data_dir=tmp_path,
        models=(tmp_path / "a", tmp_path / "b"),
        output_dir=tmp_path / "o",
        nats_url="nats://t@x:1",
        engines=("own", "comfyui=http://x"),
        starts=("python main.py --port 1", "python 'main two.py'"),
        comfyui_temp=False,
        extra_model_paths=(tmp_path / "extra.yaml",),
        allow_pickle=True,
        custom_node_routes=True,
        cache="lru=5",
        vram_budget_gb=7.5,
        ram_budget_gb=0.25,
    )
    assert Settings.from_env(settings.to_env()) == settings


def test_a_child_process_takes_nothing_that_its_parent_was_not_told_to_hand_down(tmp_path: Path) -> None:
    inherited = {"LIMNER_STARTS": "python main.py", "LIMNER_OUTPUT_DIR": str(tmp_path)}
    settings = Settings.from_env({}, data_dir=tmp_path)
    assert Settings.from_env({**inherited, **settings.to_env()}) == settings


def test_without_a_data_directory_it_is_the_users_own() -> None:
    assert Settings.from_env({}).data_dir.name == "limner"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "70000"),
        ("PORT", "http"),
        ("WORKERS", "0"),
        ("LOG_FORMAT", "xml"),
        ("MAX_UPLOAD_BYTES", "-5"),
        ("COMFYUI_HANG_SECONDS", "0"),
        ("VRAM_BUDGET_GB", "-1"),
        ("RAM_BUDGET_GB", "much"),
        ("ALLOW_PICKLE", "maybe"),
        ("COMFYUI_HANG_SECONDS", "inf"),
        ("COMFYUI_HANG_SECONDS", "soon"),
        ("COMFYUI_FREE_SECONDS", "-1"),
        ("COMFYUI_TEMP", "maybe"),
        ("WORKER_ID", "a.b"),
        ("POOL", "two words"),
        ("NATS_URL", "http://127.0.0.1:4222"),
    ],
)
def test_a_bad_value_is_named_with_its_setting(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"LIMNER_{name}={value} is not"):
        Settings.from_env({f"LIMNER_{name}": value})


@pytest.mark.parametrize("url", ["http://secret@host:4222", "http://user:p/secret@host", "http://u:p@secret@host"])
def test_no_token_or_password_of_a_bad_value_is_shown(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"LIMNER_NATS_URL=http://\*\*\*@host") as told:
        Settings.from_env({"LIMNER_NATS_URL": url})
    assert "secret" not in told.value.message


def test_a_bad_flag_is_named_as_a_flag(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="--port=70000 is not a number from 1 to 65535"):
        Settings.from_env({}, data_dir=tmp_path, port=70000)


def test_a_data_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match="cannot be written to"):
        Settings.from_env({}, data_dir=tmp_path / "file" / "data").prepare_data_dir()


def test_the_data_directory_is_made_with_its_folders(tmp_path: Path) -> None:
    Settings.from_env({}, data_dir=tmp_path / "new", output_dir=tmp_path / "out").prepare_data_dir()
    assert (tmp_path / "new" / "models" / "checkpoints").is_dir()
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_an_open_address_is_refused_while_there_are_no_keys(tmp_path: Path, host: str) -> None:
    with pytest.raises(Misconfigured, match="no API keys"):
        Settings.from_env({}, data_dir=tmp_path, host=host).check_exposure()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_loopback_addresses_are_known(host: str) -> None:
    assert is_loopback(host)
