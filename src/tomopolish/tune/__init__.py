"""Estimation of the motion prior (`--s_vel`, `--s_div` and the kernel) that maximises the evidence."""
