"""Which schema a document follows."""

from __future__ import annotations

from backoffice.documents.shapes import PLURALS

# A workflow as it is listed is less than the recipe, which workflow.xsd describes.
_SCHEMAS = {"workflow": "catalogue", "profile": "catalogue"}


def schema_of(kind: str) -> str:
    """The schema that documents of this kind follow: ``job`` for ``jobs``."""
    tag = PLURALS[kind].tag if kind in PLURALS else kind
    return _SCHEMAS.get(tag, tag)
