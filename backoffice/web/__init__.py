"""The web: every address, what answers there, and the server that serves it.

``app`` composes it. ``addresses`` is the table of what there is; ``api`` has the handlers,
``pages`` what browsers see, ``tools`` what the handlers share in CherryPy, ``server`` HTTP.
It owns no SQL and decides nothing about jobs: that is the engine's and the reports'.
"""
