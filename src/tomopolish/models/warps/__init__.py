"""The warps of tilt images, one model per file (docs/conventions.md, Objective)."""
