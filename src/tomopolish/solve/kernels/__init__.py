"""Compiled loops over particle-tilt pairs and windows."""
