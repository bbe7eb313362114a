"""Draft findings: what a model that was taught so may say of a scan, word by word, and nothing else."""
