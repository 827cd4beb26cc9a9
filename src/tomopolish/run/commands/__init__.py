"""What each command beside `align` does with a project."""
