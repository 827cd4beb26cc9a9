"""Options of the program, as immutable records that refuse what cannot work."""
