"""The service that commands are sent to, and the token that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backoffice.config import secret_files
from backoffice.config.environment import FROM_FILE, TOKEN_VARIABLE, URL_VARIABLE, refuse_both
from backoffice.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """The URL of a service, and the token for it."""

    url: str
    token: str = field(repr=False)


def service(url: str | None, token_file: str | None, environ: Mapping[str, str]) -> Address | None:
    """The service that commands are for; None if they are for this installation.

    An empty ``url`` means none, even if the environment names one. Raises ConfigError for
    a file that holds no token, or that others can read.
    """
    found = environ.get(URL_VARIABLE, "") if url is None else url
    if not found:
        if token_file is not None:
            raise ConfigError("is of no use without --url", source="--token-file")
        return None
    if token_file is None and TOKEN_VARIABLE + FROM_FILE in environ:
        refuse_both(TOKEN_VARIABLE + FROM_FILE, environ)
        token_file = environ[TOKEN_VARIABLE + FROM_FILE]
    if token_file is None:
        return Address(found, environ.get(TOKEN_VARIABLE, ""))
    token = secret_files.read_secret(token_file, token_file).strip()
    if not token:
        raise ConfigError("holds no token: it is empty", source=token_file)
    return Address(found, token)
