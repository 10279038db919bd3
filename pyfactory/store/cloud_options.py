"""How a bucket is reached: endpoint, region and profile, from the URL, the environment and the files of profiles.

    s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-west-1&profile=training

What the URL says comes first, so that a checkpoint or a configuration finds the same bucket again; then the usual
variables (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_DEFAULT_REGION`, `AWS_PROFILE`), then the
profile. Plain HTTP is spoken to an endpoint that begins with `http://`, and to no other. A URL never holds credentials:
they come from the environment, from the files of the profile, or from the role of the machine.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict
from urllib.parse import parse_qsl, urlencode, urlsplit

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError

__all__ = ["CloudOptions", "Credentials", "Profile", "read_profile", "resolve_options", "split_url"]

_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_PROFILE = re.compile(r"[^\s\[\]]([^\n\r\[\]]{0,98}[^\s\[\]])?")
_AGAIN = timedelta(minutes=10)
_NO_CREDENTIALS = "credentials come from the environment, from the files of a profile or from the machine's role"


class Credentials(TypedDict):
    """What signs requests, as obstore takes it; read again after `expires_at`, so that renewed ones are seen."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """What a URL says about reaching its bucket; empty text where it says nothing.

    Attributes:
        endpoint: `http://` or `https://` address of a service that speaks the protocol of S3.
        region: Such as `eu-west-1`.
        profile: A section of the shared files of AWS's tools.
    """

    endpoint: str = ""
    region: str = ""
    profile: str = ""

    @property
    def allow_http(self) -> bool:
        """Whether requests may travel in the clear: only if the endpoint says so."""
        return self.endpoint.startswith("http://")

    def query(self) -> str:
        """Return the options as the end of a URL, from the question mark on, or nothing."""
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name))}
        return "?" + urlencode(given, safe=":/") if given else ""


class Profile:
    """One section of the shared files.

    Args:
        name: Its name.
        values: What the files say, credentials included.
        files: Where they are, for messages.
    """

    def __init__(self, name: str, values: Mapping[str, str], files: str) -> None:
        self.name = name
        self._values = dict(values)
        self._files = files

    @property
    def exists(self) -> bool:
        """Whether any file has such a section."""
        return bool(self._values)

    @property
    def options(self) -> CloudOptions:
        """The endpoint and region that it names."""
        endpoint = self._values.get("endpoint_url", "")
        return CloudOptions(_checked_endpoint(endpoint, self._files), self._values.get("region", ""))

    def credentials(self) -> Credentials:
        """Return its keys; InvalidInputError if it has none."""
        key, secret = (self._values.get(name, "") for name in ("aws_access_key_id", "aws_secret_access_key"))
        if key and secret:
            token = self._values.get("aws_session_token") or None
            return {
                "access_key_id": key,
                "secret_access_key": secret,
                "token": token,
                "expires_at": datetime.now(UTC) + _AGAIN,
            }
        what = f"profile {self.name!r} has no keys in {self._files}"
        if not self.exists:
            what = f"there is no profile {self.name!r} in {self._files}"
        # A role, a single sign-on or a program that makes keys: those are for the tools of AWS to follow.
        command = f'eval "$(aws configure export-credentials --profile {self.name} --format env)"'
        raise InvalidInputError(what, hint=f"name another, or make keys of it: {command}")

    @property
    def has_keys(self) -> bool:
        """Whether it holds keys itself."""
        return bool(self._values.get("aws_access_key_id") and self._values.get("aws_secret_access_key"))


def split_url(url: str) -> tuple[str, CloudOptions]:
    """Return the URL of bucket and prefix, without a slash at its end, and its options.

    Raises:
        InvalidInputError: It holds credentials, a fragment or another option. What it holds is not repeated: the
            message may be logged.
    """
    parts = urlsplit(url)
    where = f"the URL of {parts.scheme}://{parts.hostname}"
    if parts.username or parts.password or parts.fragment:
        raise InvalidInputError(f"{where} must be bucket and prefix only, and options", hint=_NO_CREDENTIALS)
    given = parse_qsl(parts.query, keep_blank_values=True)
    names = [field.name for field in fields(CloudOptions)] if parts.scheme == "s3" else []
    if len(dict(given)) < len(given) or (parts.query and not given) or not {name for name, _ in given} <= {*names}:
        allowed = f"; its options are {', '.join(names)}, each once" if names else ""
        raise InvalidInputError(f"{where} must be bucket and prefix only{allowed}", hint=_NO_CREDENTIALS)
    if not parts.netloc:
        raise InvalidInputError(f"{parts.scheme}:// needs a bucket", hint=f"for example {parts.scheme}://bucket/prefix")
    options = CloudOptions(**dict(given))
    _checked_endpoint(options.endpoint, where)
    for name, form in (("region", _REGION), ("profile", _PROFILE)):
        if name in dict(given) and not form.fullmatch(getattr(options, name)):
            raise InvalidInputError(
                f"{where}: its {name} is not one", hint="such as region=eu-west-1, profile=training"
            )
    return url.partition("?")[0].rstrip("/"), replace(options, endpoint=options.endpoint.rstrip("/"))


def read_profile(name: str, environ: Mapping[str, str]) -> Profile:
    """Return a profile of the shared files of AWS's tools, `~/.aws/credentials` and `~/.aws/config`.

    Args:
        name: Its name.
        environ: The environment: `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name other files.

    Raises:
        InvalidInputError: A file is none; its content is not repeated.
        ReadOnlyError, UnavailableError: A file cannot be read.
    """
    values: dict[str, str] = {}
    config = environ.get("AWS_CONFIG_FILE") or "~/.aws/config"
    credentials = environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    for file, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parsed = _parsed(Path(file))
        if parsed.has_section(section):
            values.update(parsed[section])
    return Profile(name, values, f"{credentials} and {config}")


def resolve_options(options: CloudOptions, environ: Mapping[str, str]) -> tuple[CloudOptions, Profile | None]:
    """Return what all sources together say, and the profile whose keys sign (None: obstore finds them itself).

    Args:
        options: What the URL says, which comes first.
        environ: The environment, which comes second, with the profile that it names after it.
    """
    named = options.profile or environ.get("AWS_PROFILE", "")
    profile = read_profile(named or "default", environ)
    said = profile.options
    where = "AWS_ENDPOINT_URL"
    endpoint = options.endpoint or environ.get(f"{where}_S3") or environ.get(where) or said.endpoint
    region = options.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or said.region
    resolved = CloudOptions(_checked_endpoint(endpoint, where), region or "us-east-1", named)
    # As in AWS's tools: a profile asked for by name comes before keys of the environment, which come before others.
    if options.profile or (not environ.get("AWS_ACCESS_KEY_ID") and (named or profile.has_keys)):
        profile.credentials()  # so that a wrong name fails here
        return resolved, profile
    return resolved, None


def _parsed(file: Path) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser()
    with suppress(RuntimeError):  # whoever has no home has no files there
        file = file.expanduser()
    with translate_os_error(file):
        if not file.is_file():
            return parsed
        content = file.read_bytes()
    try:
        parsed.read_string(content.decode())
    except (configparser.Error, UnicodeDecodeError):
        # Not repeated, nor kept as the cause: the line that is wrong may be the secret.
        raise InvalidInputError(f"{file} is not a file of profiles", hint="mend it: [name], then key = value") from None
    return parsed


def _checked_endpoint(endpoint: str, where: str) -> str:
    """Return an address that is one, or nothing; what it holds is not repeated."""
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if endpoint and (not good or parts.username or parts.password or parts.query or parts.fragment):
        raise InvalidInputError(
            f"{where}: the endpoint is not the address of a service", hint="http://HOST:PORT or https://HOST"
        )
    return endpoint
