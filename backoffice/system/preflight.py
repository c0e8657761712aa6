"""Preflight: make the folders and require the programs that a process needs to start.

``backoffice check`` examines more, and changes nothing.
"""

from __future__ import annotations

import os
import shutil

from backoffice.config.settings import Settings
from backoffice.errors import ConfigError, Invalid
from backoffice.system import confinement


def prepare_folders(settings: Settings) -> None:
    """Make the folders for work and logs, and those of targets beneath [paths] home. A
    target elsewhere is never made: it may be a disk that is not mounted. Raises Invalid."""
    paths = settings.paths
    targets = [target.path for target in settings.targets.values() if target.path is not None]
    inside = [path for path in targets if path.is_relative_to(paths.home)]
    for folder in (paths.work, paths.logs, *inside):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(f"the folder {folder} cannot be made: {error.strerror}") from error
    for folder in (paths.work, paths.logs):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise Invalid(f"the folder {folder} cannot be written: see its owner and permissions")


def require_tools(settings: Settings) -> None:
    """Raise ConfigError if a worker lacks ffmpeg, ffprobe or required confinement."""
    for name in ("ffmpeg", "ffprobe"):
        program: str = getattr(settings.tools, name)
        if shutil.which(program) is None:
            message = f"{program} is not there: install ffmpeg, or say where it is"
            raise ConfigError(message, source=settings.source, section="tools", key=name)
    if settings.limits.confine == confinement.REQUIRE and (lacks := confinement.lacks()):
        message = f"needs {' and '.join(lacks)}, which this kernel does not have; set auto"
        raise ConfigError(message, source=settings.source, section="limits", key="confine")
