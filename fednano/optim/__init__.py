"""Inner optimizers, their parameter groups and schedules."""
