"""Each component can be named in an ini file of PasteDeploy."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from paste.deploy import loadfilter

from tests.middleware import wsgi

HERE = Path(__file__).resolve().parent.parent.parent / "middleware"
FACTORIES = entry_points(group="paste.filter_factory")
NAMED = {one.name: one for one in FACTORIES if one.value.startswith("middleware.")}


def test_every_component_has_an_entry_point() -> None:
    modules = {path.stem for path in HERE.glob("*.py") if "filter_factory" in path.read_text()}
    modules -= {"paste"}
    assert {one.module.removeprefix("middleware.") for one in NAMED.values()} == modules


@pytest.mark.parametrize("name", sorted(NAMED))
def test_an_entry_point_leads_to_a_factory(name: str) -> None:
    assert callable(NAMED[name].load())


def test_an_ini_file_composes_components(tmp_path: Path) -> None:
    ini = tmp_path / "web.ini"
    ini.write_text("[filter:main]\nuse = egg:backoffice#request_id\nheader = X-Trace\n")
    app = loadfilter(f"config:{ini}")(wsgi.hello)
    assert wsgi.call(app).headers["X-Trace"]
