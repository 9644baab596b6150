from hvo.protocol import *
def optimize_folios(v, order, heads):
    yield from Acquire(Lock.MMAP_READ)
