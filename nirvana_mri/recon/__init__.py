"""Wiring: from a Scan to a Volume."""
