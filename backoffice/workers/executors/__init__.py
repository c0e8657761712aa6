"""Executors: where and how one attempt runs. ``local`` uses a child process of this host."""
