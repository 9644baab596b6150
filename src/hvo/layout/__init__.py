"""Architectures, page sizes, HugeTLB sizes and eras, and what each costs and saves: pure
numbers.
"""

from hvo.layout.eras import ERA_LAYOUTS, EraLayout, era_layout
from hvo.layout.geometry import GEOMETRIES, Geometry, HugepageSize, geometry
from hvo.layout.units import format_size, parse_size

__all__ = [
    "ERA_LAYOUTS",
    "GEOMETRIES",
    "EraLayout",
    "Geometry",
    "HugepageSize",
    "era_layout",
    "format_size",
    "geometry",
    "parse_size",
]
