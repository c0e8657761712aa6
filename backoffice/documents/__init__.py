"""XML that is read safely: bounded, without DTD, valid against a schema.

Owns the limits of a document and the words of its faults. What a document
means is its caller's. Imports ``config`` and ``errors``.
"""
