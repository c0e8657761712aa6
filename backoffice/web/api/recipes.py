"""Workflows and profiles over HTTP; as XML, the recipe itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from backoffice.config.redaction import shown
from backoffice.engine import catalogue
from backoffice.engine.workflows import ParameterSpec, Workflow
from backoffice.errors import NotFound
from backoffice.media.profiles import Profile
from backoffice.reports.records import Record
from backoffice.web import responses
from backoffice.web.handlers import Handlers

T = TypeVar("T", Workflow, Profile)


class Workflows(Handlers):
    def index(self) -> list[Record]:
        workflows = self.context.site.catalogue.workflows
        return [workflow_record(workflows[name]) for name in sorted(workflows)]

    def show(self, name: str) -> Record | bytes:
        workflow = _named("workflow", name, self.context.site.catalogue.workflows)
        if self.context.format in ("json", "html"):
            return workflow_record(workflow)
        return responses.send(catalogue.visible(workflow.source), "application/xml")


class Profiles(Handlers):
    def index(self) -> list[Record]:
        profiles = self.context.site.catalogue.profiles
        return [profile_record(profiles[name]) for name in sorted(profiles)]

    def show(self, name: str) -> Record | bytes:
        profile = _named("profile", name, self.context.site.catalogue.profiles)
        if self.context.format in ("json", "html"):
            return profile_record(profile)
        return responses.send(catalogue.visible(profile.source), "application/xml")


def workflow_record(workflow: Workflow) -> Record:
    return {
        **{name: getattr(workflow, name) for name in ("name", "version", "title", "description")},
        "inputs": [
            {"role": one.role, "optional": one.minimum == 0, "many": one.maximum > 1}
            for one in workflow.inputs
        ],
        "parameters": [_parameter(one) for one in workflow.parameters],
        "tasks": [vars(one) for one in workflow.tasks],
    }


def profile_record(profile: Profile) -> Record:
    kind = profile.container or profile.package
    return {
        **{name: getattr(profile, name) for name in ("name", "title", "description")},
        "format": kind.format if kind else "",
    }


def _named(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise NotFound(f"there is no {kind} {name!r}")
    return known[name]


def _parameter(spec: ParameterSpec) -> Record:
    return vars(spec) | {"default": spec.default and shown(spec.default)}
