"""What wins when URL, environment and profile each say something about reaching a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfactory.errors import InvalidInputError
from pyfactory.store.cloud_options import CloudOptions, read_profile, resolve_options, split_url

KEYS = {"AWS_ACCESS_KEY_ID": "of the environment", "AWS_SECRET_ACCESS_KEY": "of the environment"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """An environment that names files with a default profile, one with keys and one that only says where."""
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    section = "[{0}]\naws_access_key_id = {0}\naws_secret_access_key = 100%secret\n"
    credentials.write_text(section.format("default") + section.format("ci") + "aws_session_token = token\n")
    config.write_text("[default]\nregion = r-default\n[profile ci]\nregion = r-ci\n[profile place]\nregion = r-place\n")
    return {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_CONFIG_FILE": str(config)}


@pytest.mark.parametrize(
    ("url", "environ", "region", "signs"),
    [
        ("", {}, "r-default", "default"),
        ("", KEYS, "r-default", None),
        ("", {"AWS_PROFILE": "ci"}, "r-ci", "ci"),
        ("", {"AWS_PROFILE": "ci", **KEYS}, "r-ci", None),
        ("?profile=ci", KEYS, "r-ci", "ci"),
        ("?profile=ci", {"AWS_PROFILE": "default"}, "r-ci", "ci"),
        ("?profile=ci", {"AWS_DEFAULT_REGION": "r-env"}, "r-env", "ci"),
        ("", {"AWS_REGION": "r-1", "AWS_DEFAULT_REGION": "r-2", **KEYS}, "r-1", None),
        ("?profile=ci&region=r-url", {"AWS_REGION": "r-1"}, "r-url", "ci"),
    ],
)
def test_who_says_it_first(
    files: dict[str, str], url: str, environ: dict[str, str], region: str, signs: str | None
) -> None:
    """Catches keys of one source beside the place of another, where AWS's own tools take them together."""
    options, profile = resolve_options(split_url(f"s3://bucket/x{url}")[1], files | environ)
    assert options.region == region
    assert (profile and profile.name) == signs


def test_keys_come_with_their_token(files: dict[str, str]) -> None:
    """Also: a % is no interpolation."""
    credentials = read_profile("ci", files).credentials()
    assert [credentials["access_key_id"], credentials["secret_access_key"], credentials["token"]] == [
        "ci",
        "100%secret",
        "token",
    ]
    assert read_profile("default", files).credentials()["token"] is None


def test_a_profile_without_keys_says_what_to_do(files: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="aws configure export-credentials --profile place"):
        resolve_options(CloudOptions(profile="place"), files)


def test_no_files_and_no_variables(tmp_path: Path) -> None:
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no"), "AWS_CONFIG_FILE": str(tmp_path / "no")}
    options, profile = resolve_options(CloudOptions(), nowhere)
    assert (options, profile) == (CloudOptions(region="us-east-1"), None)


@pytest.mark.parametrize("query", ["", "?region=a-1", "?endpoint=http://127.0.0.1:9000&region=a-1&profile=two%20words"])
def test_what_a_url_says_survives(query: str) -> None:
    """The URL of a store, opened again, says the same."""
    place, options = split_url(f"s3://bucket/some/prefix/{query}")
    assert place == "s3://bucket/some/prefix"
    assert split_url(place + options.query()) == (place, options)
    assert options.allow_http is ("http:" in query)
