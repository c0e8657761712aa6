"""The HTTP server: connections, threads, responses, the process around them.

Owns the listening socket, what is read strictly before an application sees it, and
how a response is written. It runs any WSGI application; only ``process`` knows ours.
It may import ``middleware`` and, in ``process``, ``web.app``.
"""
