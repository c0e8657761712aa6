"""Runs the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backoffice.cli import main
from tests.board import Board

WORKFLOW = """<workflow xmlns="urn:backoffice:1" name="quick" version="1">
  <title>Quick</title>
  <input role="film" max="9"/>
  <input role="words" min="0"/>
  <parameter name="colour"/>
  <task name="do" type="noop"><input role="film"/></task>
</workflow>
"""

LOOKS = [
    ("jobs",), ("job", 1), ("tasks",), ("task", 1), ("attempts", 1), ("files",), ("file", 1),
    ("workers",), ("queues",), ("events",), ("publications",), ("why", 1), ("why", 1, "--task"),
]  # fmt: skip


@dataclass
class Cli:
    """``options`` come before every command, ``environ`` is set while it runs."""

    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    home: Path
    board: Board
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    err: str = ""

    def __call__(self, *argv: object, status: int = 0) -> str:
        self.capture.readouterr()
        with self.patch.context() as patch:
            for name, value in self.environ.items():
                patch.setenv(name, value)
            try:
                found = main.main([*self.options, *map(str, argv)])
            except SystemExit as error:  # argparse
                found = int(error.code or 0)
        out, self.err = self.capture.readouterr()
        assert found == status, (out, self.err)
        assert "Traceback" not in self.err
        return out

    @property
    def film(self) -> Path:
        return self.home / "media/a.mp4"

    def ids(self, *argv: object) -> list[int]:
        return [job["id"] for job in json.loads(self("jobs", "--json", *argv))["jobs"]]
