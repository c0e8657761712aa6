"""The bill of materials: valid, and nothing that is passed on is left out."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parent.parent
PINNED = dict(
    match.groups()
    for name in ("runtime", "mysql", "sentry")
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    if (match := re.match(r"([a-z0-9-]+)==(\S+)", line))
)


@pytest.fixture
def text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Of what is pinned, as it is installed here; the tests' own libraries are not there."""
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "tools" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    sbom = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sbom)
    bundled = [metadata.distribution(name) for name in [*PINNED, "backoffice"]]
    monkeypatch.setattr(metadata, "distributions", lambda: bundled)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764201600")
    assert sbom.main(str(ROOT / "static" / "vendor")) == 0
    return capsys.readouterr().out


@pytest.fixture
def bom(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_it_follows_its_schema(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_every_pinned_library_is_in_it_with_version_licence_and_purl(bom: dict[str, Any]) -> None:
    found = {one["purl"]: one for one in bom["components"]}
    for name, version in PINNED.items():
        one = found[f"pkg:pypi/{name}@{version}"]
        assert one["licenses"] != [{"license": {"name": "not told"}}], name


def test_what_lies_inside_of_others_is_in_it(bom: dict[str, Any]) -> None:
    names = {one["name"] for one in bom["components"]}
    assert {"libxml2", "libxslt", "hls.js", "uplot"} <= names


def test_every_file_of_others_in_static_is_in_it(bom: dict[str, Any]) -> None:
    told = {
        file["name"]: file["hashes"][0]["content"]
        for one in bom["components"]
        for file in one.get("components", ())
    }
    folder = ROOT / "static" / "vendor"
    there = [path for path in folder.iterdir() if path.suffix not in ("", ".LICENSE")]
    assert told == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there}


def test_the_program_depends_on_all_of_it(bom: dict[str, Any]) -> None:
    program = bom["metadata"]["component"]
    assert (program["name"], program["version"]) == ("backoffice", metadata.version("backoffice"))
    (depends,) = bom["dependencies"]
    assert depends["ref"] == program["bom-ref"]
    assert depends["dependsOn"] == [one["bom-ref"] for one in bom["components"]]
