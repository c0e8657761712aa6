"""Documents: XML and JSON with the same names, valid against the schemas.

Owns which parts of a record a document holds (``shapes``), reading what clients
send (``reading``, ``safe_xml``), writing what they get (``writing``), and the
cursors of lists (``paging``). What a document means is its caller's. Imports
``units``, ``config`` and ``errors``.
"""
