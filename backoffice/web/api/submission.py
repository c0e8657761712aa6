"""The form that submits a job: what its buttons do. Scripts use ``POST /jobs``."""

from __future__ import annotations

from collections.abc import Mapping

from backoffice.engine import dry_run, field_limits, submission
from backoffice.engine.workflows import Workflow
from backoffice.errors import Conflict
from backoffice.reports import lineage
from backoffice.web import drafts, responses
from backoffice.web.drafts import Draft
from backoffice.web.handlers import Handlers
from backoffice.web.pages import render, submit
from backoffice.web.pages.files import path_of
from middleware.problem import Problem


class Submission(Handlers):
    def ask(self) -> bytes:
        """The form of a workflow, or which workflows there are."""
        context = self.context
        name, file = context.query.get("workflow"), context.query.get("file")
        if name is None:
            return self._choose(file)
        workflow = self._workflow(name)
        values = {"priority": str(field_limits.DEFAULT_PRIORITY)}
        if file is not None and workflow.inputs:
            source = lineage.source(self.store, file)
            values[f"input.{workflow.inputs[0].role}"] = path_of(source)
        return submit.form(context, Draft(workflow, values))

    def take(self) -> bytes:
        """What the form's buttons do: pick a file, show the plan, go back, submit."""
        values = self.context.fields
        draft = Draft(self._workflow(values.get("workflow", "")), values)
        picked = next((name for name in values if name.startswith("pick.")), "")
        if picked:
            role = picked.removeprefix("pick.")
            draft.values = drafts.with_picked(draft.workflow, values, role)
        if picked or values.get("do") == "change":
            return submit.form(self.context, draft)
        return self._checked(draft, values)

    def _checked(self, draft: Draft, values: Mapping[str, str]) -> bytes:
        context = self.context
        site = context.site
        prepared = drafts.prepared(draft, site.catalogue, site.settings)
        if prepared is None:
            return submit.form(context, draft, 422)
        if values.get("do") == "submit":
            return self._submit(draft, prepared)
        return submit.plan(context, dry_run.record(prepared, site.settings), draft.values)

    def _submit(self, draft: Draft, prepared: submission.PreparedJob) -> bytes:
        context = self.context
        try:
            job, _ = submission.submit(self.store, prepared, context.user, context.request_id)
        except Conflict as error:
            draft.faults["key"] = str(error)
            return submit.form(context, draft, 409)
        return responses.redirect(context.url(f"/jobs/{job}"))

    def _choose(self, file: int | None) -> bytes:
        workflows = self.context.site.catalogue.workflows
        recipes = [workflows[one] for one in sorted(workflows) if workflows[one].inputs or not file]
        return render.page(
            self.context, "jobs/choose.html", title="Submit", recipes=recipes, file=file
        )

    def _workflow(self, name: str) -> Workflow:
        workflows = self.context.site.catalogue.workflows
        if name not in workflows:
            names = ", ".join(sorted(workflows)) or "none"
            raise Problem(422, f"there is no workflow {name[:100]!r}; there are: {names}")
        return workflows[name]
