"""Scheduler: recovery, schedules, watch folders, sweeps, retention, alerts.

Owns the scheduler's loop (``scheduler``), which lists its duties; each duty is a
module. Any number of schedulers may run: each duty is a transaction that finds its
work still to be done, or does nothing. Imports ``engine``, ``reports``, ``workers``
and what is below them.
"""
