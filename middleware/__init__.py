"""WSGI components: one file and one class each, ``Class(app, **settings)``.

A component knows nothing of the application around it; it imports WebOb, other
libraries and its siblings, and nothing of ``backoffice``. Environ keys begin with
``middleware.``. Components are composed in Python, one line each, or by PasteDeploy
(``paste``). buffering, error_response, paste, problem and signing are libraries of
the others.
"""
