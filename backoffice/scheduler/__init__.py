"""What happens because time passes: recovery, schedules, watch folders, retention, alerts.

Owns the scheduler's loop and its duties. One scheduler acts at a time; the
database decides which. Imports ``engine``, ``reports``, ``workers`` and what is
below them.
"""
