"""A machine as a kernel has it after boot."""
