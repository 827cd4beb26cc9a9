"""A small project to run in."""

from relion_project import project

__all__ = ["project"]
