"""Host: files, logs, units, processes, confinement, outbound HTTP.

Owns what the operating system offers and how it is asked. Knows nothing of
jobs, media or the database. Imports ``config`` and ``errors``.
"""
