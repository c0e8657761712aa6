"""CherryPy's process bus, without the rest of CherryPy.

Importing the package would double the memory of the service's parent process, which
serves no requests. The module of the bus needs only the standard library.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def make() -> Any:
    """A ``cherrypy.process.wspbus.Bus``."""
    package = importlib.util.find_spec("cherrypy")
    if package is None or package.origin is None:
        raise ImportError("CherryPy is not installed")
    path = Path(package.origin).parent / "process" / "wspbus.py"
    spec = importlib.util.spec_from_file_location("backoffice_wspbus", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Bus()
