"""Output folders: one owner at a time, no foreign file replaced, no mixture of old and new sets."""
