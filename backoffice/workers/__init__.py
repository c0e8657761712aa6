"""Workers: claim tasks, run attempts in child processes, report outcomes.

Owns the worker's loop (``worker``) with its parts: ``claiming``, ``lease_keeper``,
``progress_reports``, ``outbox`` and the transaction they share (``sync``);
``running`` and ``process_pool`` for attempts and child processes. ``executors``
is where an attempt runs. The rules of claims and leases belong to ``engine``.
Imports ``engine``, ``tasks`` and what is below them.
"""
