"""Results as files: STAR sets, meshes, tables, reports."""
