"""What can be done here: every workflow and profile, loaded and checked together.

Workflows name task types, profiles, targets and commands; this is where they
meet, so that a broken recipe is refused before any job begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backoffice import profiles, tasks, workflows
from backoffice.config import Settings
from backoffice.profiles import Profile
from backoffice.workflows import Workflow


@dataclass(frozen=True)
class Catalogue:
    """By name."""

    workflows: Mapping[str, Workflow]
    profiles: Mapping[str, Profile]


def load(settings: Settings) -> Catalogue:
    """Read the folders of the settings; raises DefinitionError for the first fault."""
    known = profiles.load(settings.paths.profiles)
    recipes = workflows.load(
        settings.paths.workflows,
        task_types={name: tasks.load(name) for name in tasks.names()},
        profiles=known,
        targets=settings.targets,
        commands=settings.commands,
    )
    return Catalogue(recipes, known)
