"""The Storm data layer over MySQL, MariaDB and SQLite.

Owns connections, transactions and their retries, reads from replicas, schema
migrations, the tables as Storm classes, the event history, search, tokens and
counters. What may happen to a job belongs to ``engine``; what people are shown
belongs to ``reports``. Imports ``config``, ``states``, ``system``.
"""
