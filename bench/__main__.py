"""``python -m bench``: measure, and print one table."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys

from bench.place import Failed, Server, folder
from bench.report import Line, table

ROWS = (
    "noop encode cpu confinement latency idle claim stack api pages paint load service proxy"
    " replicas"
).split()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Measure Backoffice.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none")
    parser.add_argument("--quick", action="store_true", help="smaller numbers: a look, no proof")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    lines: list[Line] = []
    # Told to stop, remove what was made like everybody else.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with folder() as place:
            (place / "server").mkdir()
            with Server(place / "server").running() as server:
                for name in arguments.rows or ROWS:
                    print(f"measuring {name} …", file=sys.stderr, flush=True)
                    row = importlib.import_module(f"bench.{name}")
                    lines += row.measure(place / name, server, arguments.quick)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        print(table(lines))
    return 0 if all(line.met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
