"""Generators of other people: their program is run, or their images are read, and both are checked."""
