"""Workers: claim tasks, run attempts in child processes, report outcomes.

Owns the worker's loop and, in ``executors``, where an attempt runs. The rules
of claims and leases belong to ``engine``. Imports ``engine``, ``tasks`` and
what is below them.
"""
