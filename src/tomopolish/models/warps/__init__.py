"""The warps of tilt images, one model per file (spec §6)."""
