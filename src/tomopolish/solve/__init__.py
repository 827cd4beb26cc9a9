"""From correlation windows to the most probable geometry."""
