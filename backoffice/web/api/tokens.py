"""API tokens over HTTP: list, create, revoke. Pages only: no document holds a secret."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import cherrypy

from backoffice.data import tokens
from backoffice.errors import Invalid
from backoffice.web import responses
from backoffice.web.handlers import Handlers
from backoffice.web.pages import tokens as token_pages


class Tokens(Handlers):
    def show(self) -> dict[str, Any]:
        return self._answer(200)

    def create(self) -> dict[str, Any]:
        """The answer shows the secret: there is no address at which it could be seen
        again."""
        context = self.context
        asked = {name: context.fields.get(name, "") for name in ("name", "role", "days")}
        name, role, days = asked["name"].strip(), asked["role"], asked["days"]
        if days not in token_pages.LIFETIMES:
            raise Invalid(f"{days[:50]!r} is no lifetime that is offered; choose one of the list")
        lifetime = timedelta(days=int(days)) if days else None
        try:
            _, secret = tokens.create(self.store, name, role, context.user, lifetime)
        except Invalid as error:
            return self._answer(422, asked=asked, fault=str(error))
        return self._answer(201, secret=secret, name=name)

    def revoke(self, id: int) -> bytes:
        tokens.revoke(self.store, id, self.context.user)
        return responses.redirect(self.context.url("/tokens"))

    def _answer(self, status: int, **shown: Any) -> dict[str, Any]:
        response = cherrypy.serving.response
        response.status = status
        response.headers["Cache-Control"] = "no-store"
        return token_pages.tokens(self.context, **shown)
