"""Settings: from file and environment to frozen objects.

Owns every setting (name, type, default, help), where each is looked for, and
redaction of secrets in what is shown. No other package reads the environment
or the settings file. Imports ``errors`` only.
"""
