"""Data sets: the model (`model`) and its STAR and MRC form, both RELION dialects.

The only folder that knows RELION's labels, and the only place where unit, origin and hand are converted.
"""
