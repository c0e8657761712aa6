"""Executors: where an attempt runs. ``local`` is a child process of this host.

``attempt`` is what happens inside that process: ``sources`` are opened, the task
module runs with its ``task_context``, ``results`` become the outcome.
"""
