"""Scores that say by which rule they were made."""
