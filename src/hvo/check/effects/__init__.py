"""What each step does, one memory access at a time.

The files have the names of those in `hvo.steps`; importing them registers their steps.
"""

from hvo.check.effects import entries, frames, hotplug, ordering, pools, struct_pages

__all__ = ["entries", "frames", "hotplug", "ordering", "pools", "struct_pages"]
