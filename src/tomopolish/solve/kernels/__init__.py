"""Compiled loops over pairs and windows."""
