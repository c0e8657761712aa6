"""The parts of the task type ``transcode``: an encoding, its sound, what it leaves out."""
