"""What people and programs read: records, reasons, counts, failures, lineage.

Owns the queries behind pages, documents, metrics and commands, and turns rows
into plain records once. Changes nothing. Imports ``engine``, ``data``.
"""
