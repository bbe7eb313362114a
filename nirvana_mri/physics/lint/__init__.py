"""Statistics that tell damaged or doctored data: one number each, whatever the scale and the order of the coils."""
