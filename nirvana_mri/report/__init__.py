"""What a scan is and how its reconstruction looks: tables, figures, one self-contained page."""
