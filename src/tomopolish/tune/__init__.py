"""The motion prior that makes the images most probable: `--s_vel`, `--s_div` and the kernel."""
