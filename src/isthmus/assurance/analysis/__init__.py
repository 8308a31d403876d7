"""Whether objects fit together: each analyzer is a function from a read-only index of them to findings. It sees nothing else."""
