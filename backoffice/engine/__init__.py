"""Workflows and jobs: what may happen to them, as a state machine in SQL.

Owns workflows, submission, transitions of jobs and tasks, claims, leases and
outcomes of attempts. Knows neither HTTP nor processes: ``workers`` runs
attempts, ``scheduler`` acts when time passes. Imports ``data``, ``media``,
``tasks`` and what is below them.
"""
