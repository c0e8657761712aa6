"""The command line: arguments, commands, output, exit status.

Owns how a command is given and how its result is shown, on the database or over
HTTP with ``client``. Everything may be imported here; nothing imports it.
"""
