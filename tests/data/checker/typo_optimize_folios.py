from hvo.protocol import *
def optimize_folios(v, order, heads):
    yield Acquire(Lock.MMAP_READ)
