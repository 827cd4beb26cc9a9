"""The commands other than `align`, from settings to files."""
