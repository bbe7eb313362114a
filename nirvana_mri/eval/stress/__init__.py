"""What happens to a reconstruction when the measurement is not as it should be, beside CG-SENSE."""
