"""The service: one parent process that keeps worker, scheduler and web server running.

Owns what ``init.d`` and systemd start: child processes, signals, reload. What the
children do belongs to their packages; each is started as a command of its own.
Imports ``data``, ``engine``, ``system``.
"""
