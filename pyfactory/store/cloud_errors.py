"""What goes wrong with a bucket, in our words and without what a credential may stand in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import obstore.exceptions

from pyfactory.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PyfactoryError,
    ReadOnlyError,
    UnavailableError,
)
from pyfactory.store.base import NoPlaceError

__all__ = ["translate_cloud_error"]

_CREDENTIALS = "check the credentials of this cloud in the environment"
_ROLE_SERVICES = ("//169.254.169.254/", "//169.254.170.2/", "//metadata.google.internal/", "/latest/api/token")
_NO_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or add ?profile=NAME to the URL"
_NOBODY = "check network and service, and the endpoint (http or https, port); then run the command again"
_MEANING: dict[type[obstore.exceptions.BaseError], tuple[type[PyfactoryError], str]] = {
    obstore.exceptions.AlreadyExistsError: (ConflictError, "look again, then retry"),
    obstore.exceptions.PreconditionError: (ConflictError, "look again, then retry"),
    obstore.exceptions.NotModifiedError: (ConflictError, "look again, then retry"),
    obstore.exceptions.NotFoundError: (NotFoundError, "check bucket and prefix"),
    obstore.exceptions.InvalidPathError: (InvalidInputError, ""),
    obstore.exceptions.UnknownConfigurationKeyError: (InvalidInputError, ""),
    obstore.exceptions.PermissionDeniedError: (ReadOnlyError, _CREDENTIALS),
    obstore.exceptions.UnauthenticatedError: (ReadOnlyError, _CREDENTIALS),
    obstore.exceptions.NotSupportedError: (UnavailableError, "this kind of store cannot hold a repository"),
    obstore.exceptions.GenericError: (UnavailableError, "check network and service, then run the command again"),
    obstore.exceptions.JoinError: (UnavailableError, "run the command again"),
    obstore.exceptions.BaseError: (UnavailableError, "run the command again"),
}
_BY_STATUS: dict[str, type[obstore.exceptions.BaseError]] = {
    "401": obstore.exceptions.UnauthenticatedError,
    "403": obstore.exceptions.PermissionDeniedError,
    "404": obstore.exceptions.NotFoundError,
}


@contextmanager
def translate_cloud_error(where: str, fallback: type[PyfactoryError] = UnavailableError) -> Iterator[None]:
    """Turn whatever obstore raises into our errors, without what a credential may stand in.

    `fallback` stands for obstore's GenericError. `from None`: the original text would appear in every traceback.
    """
    try:
        yield
    except PyfactoryError:
        raise
    except (obstore.exceptions.BaseError, FileNotFoundError) as error:
        if "<Code>NoSuchBucket</Code>" in str(error):
            what = f"{where}: there is no such bucket"
            raise NoPlaceError(what, hint="check its name, or make it with the tools of the service") from None
        if known := _known_failure(where, str(error)):
            raise UnavailableError(f"{where}: {known[0]}", hint=known[1]) from None
        if isinstance(error, FileNotFoundError) and not isinstance(error, obstore.exceptions.BaseError):
            raise NotFoundError(f"{where}: no such object") from None
        meant = type(error)
        if meant is obstore.exceptions.GenericError:
            meant = _meant_by_status(error)
        kind, hint = next(_MEANING[known] for known in meant.__mro__ if known in _MEANING)
        if meant is obstore.exceptions.GenericError:
            kind, hint = fallback, hint if fallback is UnavailableError else _CREDENTIALS
        raise kind(f"{where}: {_gist(error)}", hint=hint) from None
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidInputError(f"{where}: {_gist(error)}") from None
    except OSError as error:
        raise UnavailableError(f"{where}: {_gist(error)}") from None


def _known_failure(where: str, text: str) -> tuple[str, str] | None:
    """Return in plain words what happens to most people once, and the remedy; None if it is something else."""
    if any(address in text for address in _ROLE_SERVICES):
        return "no credentials for this cloud were found", _NO_KEYS if where.startswith("s3:") else _CREDENTIALS
    if "error sending request" in text and (found := re.search(r"performing \w+ (https?://[^/\s?@]+)[/\s]", text)):
        return f"nobody answers at {found[1]}", _NOBODY
    return None


def _meant_by_status(error: obstore.exceptions.BaseError) -> type[obstore.exceptions.BaseError]:
    # Lists and deletes are all "generic", whatever the service answers.
    status = re.search(r"status code: (\d{3})", str(error))
    return _BY_STATUS.get(status[1] if status else "", obstore.exceptions.GenericError)


def _gist(error: Exception) -> str:
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    line = re.split(r"[\n<]", text, maxsplit=1)[0].strip().rstrip(":")
    line = re.sub(r"//[^\s/@]*@", "//", re.sub(r"\?\S*", "", line))
    # After the status stands what the service says, and it may repeat the request to us, key and signature included.
    line = re.sub(r"(status code: \d{3}[ A-Za-z]*).*", r"\1", line).strip()
    return f"{line} ({code[1]})" if code else line
