"""The operations that have more than one implementation: one folder each, `naive.py` is the definition."""
