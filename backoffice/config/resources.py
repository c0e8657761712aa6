"""Folders that are installed with the package: ``etc``, ``schema``, ``static``, ``templates``."""

from __future__ import annotations

from pathlib import Path

from backoffice.errors import NotFound


def share(name: str) -> Path:
    """The folder ``name``, in a wheel and in a checkout.

    A wheel has it inside the package, a checkout beside it. The package comes
    first: a folder of another program beside it must not win.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise NotFound(f"the folder {name!r} is missing from this installation; install it again")
