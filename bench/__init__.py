"""What Backoffice is measured by: ratios between two things of one run.

    python -m bench [--quick] [ROW …]

A row is a module here with ``measure``. Everything is made in a folder that
is removed at the end; databases are our own, processes are our own.
"""
