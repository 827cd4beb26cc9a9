"""Rounds of alignment, reconstruction and FSC: from a project to its sharpest map."""
