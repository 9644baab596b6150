/*
 * HVO of 5.18 on x86-64 (with the leaf read under the page-table lock), one HugeTLB page, against a reader of its tails and a page-frame
 * walker that takes references on them: the model of hvo check, step by step, written once more.
 *
 * A huge page has three vmemmap pages (0 is the head's) under a leaf of four; frame p holds vmemmap page p, and TABLE becomes the table.
 * A step is one atomic block: one memory access, entry, lock, allocation, free, or invalidation. A TLB is a may-set, the same for all CPUs:
 * what is in the tables, and what was there since the last invalidation that was asked for afterwards and is complete.
 *
 * -DTIMES=n: how often the reader and the walker go round. -DFREE_FIRST: the mutant that frees before it flushes.
 */

#define PAGES 4
#define TABLE 4
#define NONE 7

#ifndef TIMES
#define TIMES 1
#endif

byte pmd = NONE;                        /* NONE: the leaf; TABLE: the table */
byte entry[PAGES];                      /* frames in the table */
bool writable[PAGES];
byte filled = 0;                        /* entries of the table that are there */
bool live[5];                           /* frames of the vmemmap, and the table */
byte refcount[PAGES];                   /* of the last tail that each frame holds */

bool old_leaf = false, old_leaf_asked = false;          /* a TLB may hold the leaf; its end was asked for */
byte old[PAGES] = NONE;                                 /* a TLB may hold this frame for a page, writable */
bool old_asked[PAGES] = false;

byte mmap_readers = 0;
bool page_table_lock = false;
byte key = 0;
bool optimized = false, marked = false;

/* Any translation that may be used leads to a frame that is live, and lets write where that is wanted. */
inline access(p, write) {
    assert(pmd != TABLE || live[TABLE]);
    assert(pmd == TABLE -> live[entry[p]] : live[p]);
    assert(!write || pmd != TABLE || writable[p]);
    assert(!old_leaf || live[p]);
    assert(old[p] == NONE || live[old[p]]);
}

/* One of them is used. */
inline reach(p, frame) {
    if
    :: frame = (pmd == TABLE -> entry[p] : p)
    :: old_leaf -> frame = p
    :: old[p] != NONE -> frame = old[p]
    fi
}

inline ask(last) {
    i = 0;
    do
    :: i <= last -> old_asked[i] = old_asked[i] || old[i] != NONE; i++
    :: else -> break
    od;
    old_leaf_asked = old_leaf_asked || old_leaf
}

inline complete() {
    i = 0;
    do
    :: i < PAGES -> if :: old_asked[i] -> old[i] = NONE; old_asked[i] = false :: else fi; i++
    :: else -> break
    od;
    if :: old_leaf_asked -> old_leaf = false; old_leaf_asked = false :: else fi
}

/* Nothing that is in the tables or may be in a TLB leads to the frame. */
inline release(frame) {
    assert(live[frame]);
    i = 0;
    do
    :: i < PAGES ->
        assert((pmd == TABLE -> entry[i] : i) != frame);
        assert(!old_leaf || i != frame);
        assert(old[i] != frame);
        i++
    :: else -> break
    od;
    live[frame] = false
}

inline share(p) {
    assert(live[0]);
    if :: entry[p] != 0 -> old[p] = entry[p]; old_asked[p] = false :: else fi;
    entry[p] = 0;
    writable[p] = false
}

proctype Optimize() {
    byte i = 0, seen = NONE;
    atomic { key++ };
    atomic { mmap_readers++ };
    skip;                                               /* locate the PMD entry */
    atomic { !page_table_lock -> page_table_lock = true };
    atomic { seen = pmd };
    atomic { page_table_lock = false };
    if
    :: seen == NONE ->
        atomic { assert(!live[TABLE]); live[TABLE] = true };
        do
        :: filled < PAGES -> atomic { entry[filled] = filled; writable[filled] = true; filled++ }
        :: else -> break
        od;
        atomic { !page_table_lock -> page_table_lock = true };
        atomic { seen = pmd };
        skip;                                           /* write barrier */
        atomic {
            assert(live[0] && live[1] && live[2] && live[3]);
            pmd = TABLE; old_leaf = true; old_leaf_asked = false
        };
#ifndef FREE_FIRST
        atomic { ask(3) };
        atomic { complete() };
#endif
        atomic { page_table_lock = false }
    :: else
    fi;
    skip;                                               /* locate the PMD entry */
    atomic { seen = pmd };
    atomic { seen = entry[0] };
    atomic { seen = entry[1] };
    atomic { share(1) };
    atomic { seen = entry[2] };
    atomic { share(2) };
    skip;                                               /* frames go on the list */
#ifndef FREE_FIRST
    atomic { ask(2) };
    atomic { complete() };
#endif
    atomic { mmap_readers-- };
    atomic { access(0, true); optimized = true };
    skip;                                               /* frames come off the list */
    atomic { release(2) };
    atomic { release(1) };
#ifdef FREE_FIRST
    atomic { ask(3) };
    atomic { complete() };
#endif
    atomic { assert(key == 1 && !writable[1] && !writable[2]) }
}

proctype Reader() {
    byte times = 0, frame = 0;
    do
    :: times < TIMES -> atomic { access(1, false); reach(1, frame); frame = 0 }; atomic { access(2, false); reach(2, frame); frame = 0; times++ }
    :: else -> break
    od
}

proctype Walker() {
    byte times = 0, frame = 0, count = 0;
    do
    :: times < TIMES ->
        atomic { access(2, false); reach(2, frame); count = refcount[frame]; frame = 0 };
        do
        :: count != 0 ->
            atomic {
                access(2, true);
                reach(2, frame);
                if
                :: refcount[frame] == count -> refcount[frame]++; count = 0
                :: else -> count = refcount[frame]
                fi
            }
        :: else -> break
        od;
        times++
    :: else -> break
    od
}

init {
    atomic {
        live[0] = true; live[1] = true; live[2] = true; live[3] = true;
        run Optimize(); run Reader(); run Walker()
    }
}
