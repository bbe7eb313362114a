"""MRI physics: tensor in, tensor out, nothing learned."""
