"""Move a virtual environment:  relocate.py BUILT FINAL

Makes all files beneath BUILT, which pip has just filled, name FINAL instead: scripts,
pyvenv.cfg, and the checksums of both in the records of what was installed. Records of
scripts that were removed are dropped. It moves no file itself. Exits 1, naming them, if
files still name BUILT.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import sys
from pathlib import Path


def main(built: Path, final: Path) -> int:
    for path in (built / "pyvenv.cfg", *(built / "bin").iterdir()):
        if not path.is_symlink():
            _rename(path, built, final)
    for record in built.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        _record(record, built)
    left = [path for path in _files(built) if bytes(built) in path.read_bytes()]
    for path in left:
        print(f"{path} still names {built}", file=sys.stderr)
    return 1 if left else 0


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _rename(path: Path, built: Path, final: Path) -> None:
    """Also drop the command that made the environment: its folder is gone."""
    content = path.read_bytes().replace(bytes(built), bytes(final))
    if path.name == "pyvenv.cfg":
        content = re.sub(rb"(?m)^command = .*\n", b"", content)
    path.write_bytes(content)


def _record(record: Path, built: Path) -> None:
    """Correct the checksums of scripts in ``record``."""
    with open(record, newline="") as stream:
        rows = list(csv.reader(stream))
    rows = [row for row in rows if Path(record.parent.parent, row[0]).exists()]
    for row in rows:
        path = Path(record.parent.parent, row[0]).resolve()
        if path.is_relative_to(built / "bin"):
            content = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            row[1:] = [f"sha256={digest.decode()}", str(len(content))]
    with open(record, "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2])))
