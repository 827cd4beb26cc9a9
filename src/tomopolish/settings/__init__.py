"""Options of the program, as immutable records that refuse invalid values."""
