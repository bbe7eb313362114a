"""Files to Scan and Volume, and back. No maths."""
