"""The backbone as a language model: text in, pretraining, scores, and pictures of its memory. Nothing of MRI."""
