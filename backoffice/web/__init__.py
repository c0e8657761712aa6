"""The web application: WSGI composition, HTTP server, handlers, pages.

Owns addresses, content negotiation, forms and how records are shown. What may
happen to a job belongs to ``engine``, what is read to ``reports``. Imports
those and what is below them.
"""
