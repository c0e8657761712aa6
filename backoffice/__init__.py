"""Backoffice: job control for video transcoding and publishing."""

__version__ = "0.1.0"
