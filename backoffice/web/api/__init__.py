"""Handlers: one class a resource, one method an address.

They look, change what they are asked to, and return records; the tools make XML, JSON
or a page of them. They may import pages, the context and the engine; the table of
addresses, above, is the only one that knows them.
"""
