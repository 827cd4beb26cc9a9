"""Folders that commands write into: one owner at a time, no file of others replaced, no mixture of sets."""
