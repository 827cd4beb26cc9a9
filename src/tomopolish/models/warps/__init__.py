"""The warps of tilt images, one model per file (docs/dev/conventions.md, Objective)."""
