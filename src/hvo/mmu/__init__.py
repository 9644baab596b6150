"""Page tables as bytes: descriptor formats as data, walking and writing over arrays, what a TLB may
hold.
"""
