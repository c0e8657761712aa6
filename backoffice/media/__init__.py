"""ffmpeg and ffprobe: what a file holds, and what is made of it.

Owns probing, the choice of streams, profiles and their ffmpeg arguments,
colour, frame rates, packaging as HLS and DASH, and the proof that what came out
is whole. Knows nothing of jobs, tasks or the database. Imports ``config``,
``documents``, ``system``.
"""
