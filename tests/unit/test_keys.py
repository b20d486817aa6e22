"""The secrets of a laptop: made once, kept, and open to their owner alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import BadSettings
from service.local.keys import FILE_NAME, kept_secrets
from service.settings import Settings
from service.webhooks import check_secret, new_secret
from tests.world import CALLBACK_SECRET


def test_secrets_are_made_once_and_only_the_owner_can_read_them(data_folder: Path) -> None:
    first = kept_secrets(data_folder, Settings())
    assert kept_secrets(data_folder, Settings()) == first
    assert list(first) == ["api_keys", "cron_secret", "callback_secrets", "admin_tokens", "webhook_secrets"]
    assert len({secret for values in first.values() for secret in values}) == 5
    assert check_secret(first["callback_secrets"][0]) is None
    assert check_secret(first["webhook_secrets"][0]) is None
    modes = [path.stat().st_mode & 0o777 for path in (data_folder, data_folder / FILE_NAME)]
    assert modes == [0o700, 0o600]
    assert len(list(data_folder.iterdir())) == 1
    Settings.model_validate(first)


def test_only_what_the_environment_does_not_name_is_made(data_folder: Path) -> None:
    named = Settings(api_keys=("key-of-an-app-0123456789",), cron_secret=("secret-of-cron-0123456789",))
    assert list(kept_secrets(data_folder, named)) == ["callback_secrets", "admin_tokens", "webhook_secrets"]
    complete = Settings(
        **named.model_dump()
        | {"callback_secrets": (CALLBACK_SECRET,), "admin_tokens": ("token-of-admin-0123456789",)}
        | {"webhook_secrets": (new_secret(),)}
    )
    assert kept_secrets(data_folder / "none", complete) == {}
    assert not (data_folder / "none").exists()
    everything = kept_secrets(data_folder, Settings())
    assert everything["callback_secrets"] == kept_secrets(data_folder, named)["callback_secrets"]


def test_several_values_in_the_file_are_a_rotation(data_folder: Path) -> None:
    kept_secrets(data_folder, Settings())
    path = data_folder / FILE_NAME
    path.write_text(path.read_text().replace("API_KEYS=", "API_KEYS=the-newer-one-of-two,"))
    assert kept_secrets(data_folder, Settings())["api_keys"][0] == "the-newer-one-of-two"
    assert len(kept_secrets(data_folder, Settings())["api_keys"]) == 2


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettings, match="--data"):
        kept_secrets(tmp_path / "file", Settings())
