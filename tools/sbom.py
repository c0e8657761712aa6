"""A bill of materials (CycloneDX 1.6, JSON) of the environment that runs this.

    ENVIRONMENT/bin/python3 tools/sbom.py static/vendor >backoffice.cdx.json

It names every distribution that is installed there, the C libraries inside of lxml,
and the files of others in static/vendor, as its README has them. Licences are what
each says of itself. Debian's Python and ffmpeg are not part of it: the package only
depends on them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

Component = dict[str, Any]

ROOT = "backoffice"
UNKNOWN = "not told"
# Of an older License field only what can be nothing but SPDX is taken for it.
_ID = r"(?:MIT|[A-Za-z]+-[0-9][0-9.]*(?:-[A-Za-z-]+)?)"
_is_spdx = re.compile(rf"{_ID}(?: (?:AND|OR) {_ID})*").fullmatch
# A line of static/vendor/README: files, name and version, licence (its file): use.
_VENDORED = re.compile(r"(\S+)\s+(\S+) ([0-9][\w.]*), ([\w.-]+) \((\S+)\): .+")


def main(vendor: str) -> int:
    components = {one["bom-ref"]: one for one in _components(Path(vendor))}
    root = next(one for one in components.values() if one["name"] == ROOT)
    others = sorted(components.keys() - {root["bom-ref"]})
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": _now(), "component": root | {"type": "application"}},
        "components": [components[one] for one in others],
        "dependencies": [{"ref": root["bom-ref"], "dependsOn": others}],
    }
    identity = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True))
    json.dump(bom | {"serialNumber": f"urn:uuid:{identity}"}, sys.stdout, indent=1)
    return 0


def _components(vendor: Path) -> Iterator[Component]:
    for distribution in metadata.distributions():
        yield _installed(distribution)
        if distribution.name == "lxml":
            yield from _inside_lxml(distribution)
    yield from _vendored(vendor)


def _component(kind: str, name: str, version: str, licence: Mapping[str, Any]) -> Component:
    purl = f"pkg:{kind}/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "licenses": [licence],
        "purl": purl,
    }


def _installed(one: Distribution) -> Component:
    name = re.sub(r"[-_.]+", "-", one.name).lower()
    return _component("pypi", name, one.version, _licence(one.metadata))


def _licence(told: metadata.PackageMetadata) -> Mapping[str, Any]:
    if "License-Expression" in told:  # which is SPDX by its definition
        return {"expression": told["License-Expression"]}
    if "License" in told and _is_spdx(told["License"]):
        return {"expression": told["License"]}
    names = [one for one in told.get_all("Classifier") or () if one.startswith("License :: OSI")]
    return {"license": {"name": names[0].rpartition(" :: ")[2] if names else UNKNOWN}}


def _inside_lxml(lxml: Distribution) -> Iterator[Component]:
    """Its wheels hold them; what was built here has them from Debian."""
    if "manylinux" in (lxml.read_text("WHEEL") or ""):
        from lxml import etree

        compiled = {
            "libxml2": etree.LIBXML_COMPILED_VERSION,
            "libxslt": etree.LIBXSLT_COMPILED_VERSION,
        }
        for name, version in compiled.items():
            yield _component("generic", name, ".".join(map(str, version)), {"expression": "MIT"})


def _vendored(folder: Path) -> Iterator[Component]:
    for match in _VENDORED.finditer((folder / "README").read_text("utf-8")):
        pattern, name, version, licence, _ = match.groups()
        files = [
            {"type": "file", "name": path.name, "hashes": [_sha256(path)]}
            for path in sorted(folder.glob(pattern))
        ]
        found = _component("npm", name.lower(), version, {"expression": licence})
        yield found | {"components": files}


def _sha256(path: Path) -> dict[str, str]:
    return {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}


def _now() -> str:
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
