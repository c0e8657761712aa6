"""Administration: check, backup, restore, reconcile, demo.

Owns the work of those commands; their arguments and output belong to ``cli``.
Imports ``scheduler``, ``reports`` and what is below them.
"""
