"""RELION's STAR files of both dialects: which tables and labels hold what."""
