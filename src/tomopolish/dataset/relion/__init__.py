"""RELION's STAR files of both dialects: their tables and labels."""
