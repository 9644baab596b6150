"""One state, unpacked so that steps can be done on it: memory, what TLBs may hold, frames. `perform` in `hvo.check.perform` does the steps.

A TLB is a may-set, the same for all CPUs since a walker may fill any of them at any time: the entries in the tables, plus those in `stale`.
"""

from hvo.check.footprint import ALLOCATOR, FRAME, PHYSICAL, STRUCT_PAGE, TRANSLATION, Touched
from hvo.check.geometry import PAGE, PMD_FRAME, STRUCTS
from hvo.check.model import ALLOCATED, EMPTY, FREE, GIVEN, KIND, LEVEL1, PRIVATE, STATUS, STRUCT, TABLE, VANISHED, Meaning, Model, State
from hvo.check.rules import needs_break, size_change_allowed


class Fault(Exception):
    """A step that cannot be finished: what was violated has been noted."""


class Waits(Exception):
    """An access that met a broken entry, and waits in the fault handler until it is made."""


class World:
    """A state in the making.

    `found` collects what was violated in which step, `done` counts steps, `urgent` says that the actor may not wait, `touched` what the
    last step read and changed.
    """

    __slots__ = (
        "actors", "choices", "contents", "copies", "counters", "dirty", "done", "extra", "failures", "found", "leaf", "model", "numbers",
        "stale", "status", "taken", "touched", "urgent",
    )  # fmt: skip

    def __init__(self, model: Model, state: State, choices: tuple[int, ...] = ()) -> None:
        self.model = model
        self.leaf = model.geometry.leaf
        rows = model.rows
        self.numbers = state.contents
        self.contents = [rows[number] for number in state.contents]
        self.dirty: set[int] = set()
        self.status = bytearray(state.status)
        self.stale = state.stale
        self.counters = state.counters
        self.copies = state.copies
        self.failures = state.failures
        self.extra = state.extra
        self.actors = list(state.actors)
        self.found: list[tuple[str, str, int]] = []
        self.done = 0
        self.urgent = False
        self.touched: Touched = []
        self.choices = choices
        self.taken: list[tuple[int, int]] = []

    def freeze(self) -> State:
        """The state that it is now."""
        numbers = self.numbers
        if self.dirty:
            changed = list(numbers)
            for frame in self.dirty:
                changed[frame] = self.model.number(self.contents[frame])
            numbers = tuple(changed)
        return State(numbers, bytes(self.status), self.stale, self.counters, self.copies, self.failures, self.extra, tuple(self.actors))

    def choose(self, options: int) -> int:
        """One of `options` ways on: as told, else the first; all others are tried as well."""
        if options == 1:
            return 0
        at = len(self.taken)
        choice = self.choices[at] if at < len(self.choices) else 0
        self.taken.append((choice, options))
        return choice

    def note(self, rule: str, message: str) -> None:
        """Something is violated, but the run goes on."""
        self.found.append((rule, message, self.done))

    def fault(self, rule: str, message: str) -> Fault:
        """Something is violated, and the run ends there."""
        self.note(rule, message)
        return Fault(rule)

    def put(self, frame: int, word: int, value: int) -> None:
        """Store one word of a frame."""
        row = self.contents[frame]
        if row[word] != value:
            self.fill(frame, (*row[:word], value, *row[word + 1 :]))

    def fill(self, frame: int, row: tuple[int, ...]) -> None:
        """Store everything that a frame holds."""
        self.contents[frame] = row
        self.dirty.add(frame)

    # -- translations --

    def translations(self, page: int) -> list[Meaning]:
        """Everything that any CPU may use for the vmemmap page `page`: leaves of pages, or "none" where the walk may end in a fault."""
        slot, index = divmod(page, self.leaf)
        model = self.model
        out: list[Meaning] = []
        self.touched.append((TRANSLATION, page, 0))
        pmds = [self.contents[PMD_FRAME][slot]]
        for key, entry, _ in self.stale:
            if key == page:
                out.append(model.meaning(entry, 0))
            elif key == LEVEL1 + slot:
                pmds.append(entry)
        for pmd in pmds:
            meaning = model.meaning(pmd, 1)
            if meaning.kind == "leaf":
                out.append(Meaning("leaf", meaning.frame + index, meaning.writable, meaning.cacheable))
            elif meaning.kind == "table":
                if self.status[meaning.frame] & STATUS not in (ALLOCATED, PRIVATE):
                    self.note("freed-table", f"a walk for vmemmap page {page} reads the table in frame {meaning.frame}, which is free")
                out.append(model.meaning(self.contents[meaning.frame][index], 0))
            else:
                out.append(meaning)
        return out

    def is_live(self, frame: int) -> bool:
        """Whether a frame that the vmemmap maps is still its own."""
        state = self.status[frame]
        return state & STATUS in (ALLOCATED, PRIVATE) and state & KIND in (0, STRUCT)

    def frames_of(self, page: int, *, write: bool, what: str) -> list[int]:
        """The frames that an access to the vmemmap page `page` may reach; notes what must not happen on the way."""
        usable: list[int] = []
        before, waits = len(self.found), False
        for meaning in self.translations(page):
            if meaning.kind != "leaf":
                waits = self._meet_invalid(page, what) or waits
            elif not meaning.cacheable and not self._set_access_flag(page):
                self.note("access-invalid", f"{what} meets an entry of vmemmap page {page} whose access flag is clear")
            elif write and not meaning.writable:
                self.note("write-read-only", f"{what} writes vmemmap page {page}, which is mapped read-only")
            elif not self.is_live(meaning.frame):
                self.note("access-freed", f"{what} reaches frame {meaning.frame} by vmemmap page {page}: it is not the vmemmap's any more")
            elif meaning.frame not in usable:
                usable.append(meaning.frame)
                self.touched.append((FRAME, meaning.frame, 0))
        self._conflict_abort(page, what)
        if len(self.found) > before:
            raise Fault
        if waits and not usable:
            raise Waits
        return usable

    def _meet_invalid(self, page: int, what: str) -> bool:
        """A fault in kernel mode is an error, unless it is handled by waiting and the one who meets it may wait -> whether it waits."""
        if self.extra[2] and not self.urgent:
            return True
        waiting = " where it cannot wait" if self.extra[2] else ""
        self.note("access-invalid", f"{what} meets an invalid entry of vmemmap page {page}{waiting}")
        return False

    def _set_access_flag(self, page: int) -> bool:
        """The walker finds the access flag clear -> whether the hardware sets it; else the access faults."""
        slot, index = divmod(page, self.leaf)
        table = self.model.meaning(self.contents[PMD_FRAME][slot], 1)
        if not self.model.rules.hardware_access_flag or table.kind != "table":
            return False
        self.touched += [(PHYSICAL, table.frame * PAGE + 8 * index, 1), (TRANSLATION, page, 1)]
        self.put(table.frame, index, self.contents[table.frame][index] | self.model.v.format.accessed)
        return True

    def _conflict_abort(self, page: int, what: str) -> None:
        """With FEAT_BBM level 2 a block beside its table may make the TLB abort, except on cores known not to."""
        rules = self.model.rules
        if not rules.breaks_before_make or rules.bbm_level != 2 or rules.noabort:
            return
        slot = page // self.leaf
        kinds = {self.model.meaning(entry, 1).kind for key, entry, _ in self.stale if key == LEVEL1 + slot}
        if kinds and kinds | {self.model.meaning(self.contents[PMD_FRAME][slot], 1).kind} >= {"leaf", "table"}:
            self.note("access-invalid", f"{what} meets a block and its table at once: TLB conflict abort")

    # -- entries --

    def write_entry(self, location: int, value: int, level: int) -> None:
        """Write an entry, remember what a TLB may still hold of the old one, and look at what becomes reachable."""
        frame, index = location // PAGE, location % PAGE // 8
        if self.status[frame] & STATUS not in (ALLOCATED, PRIVATE):
            raise self.fault("freed-table", f"an entry is written into frame {frame}, which is free")
        self.touched.append((PHYSICAL, location, 1))
        if level == 1:
            self._write_pmd(index, value)
        elif level == 0:
            self._write_pte(frame, index, value)
        self.put(frame, index, value)

    def _write_pmd(self, slot: int, value: int) -> None:
        old = self.contents[PMD_FRAME][slot]
        new = self.model.meaning(value, 1)
        for page in range(slot * self.leaf, (slot + 1) * self.leaf):
            self.touched.append((TRANSLATION, page, 1))
        self._check_pmd(slot, old, value)
        before = self.model.meaning(old, 1)
        if old != value and before.kind == "table":
            for index in range(self.leaf):
                self._keep(slot * self.leaf + index, self.contents[before.frame][index], 0, -1)
        if old != value:
            self._keep(LEVEL1 + slot, old, 1, value)
        if new.kind == "table":
            self._publish_table(new.frame, slot)

    def _publish_table(self, table: int, slot: int) -> None:
        state = self.status[table]
        if state & STATUS not in (ALLOCATED, PRIVATE):
            self.note("freed-table", f"the table in frame {table} is installed, and is free")
        else:
            self.status[table] = ALLOCATED | TABLE
        self.touched.append((FRAME, table, 1))
        for index in range(self.leaf):
            meaning = self.model.meaning(self.contents[table][index], 0)
            if meaning.kind == "leaf":
                self._reachable(meaning.frame, slot * self.leaf + index)

    def _write_pte(self, frame: int, index: int, value: int) -> None:
        old = self.contents[frame][index]
        meaning = self.model.meaning(value, 0)
        if meaning.kind == "leaf":
            self.check_kind(meaning.frame)
        self.touched.append((FRAME, frame, 0))
        for slot in self.slots_of(frame):
            page = slot * self.leaf + index
            self.touched.append((TRANSLATION, page, 1))
            self._check_pte(slot, page, old, value)
            if old != value:
                self._keep(page, old, 0, value)
            if meaning.kind == "leaf":
                self._reachable(meaning.frame, page)

    def check_kind(self, frame: int) -> None:
        """An entry for a page of struct pages is being made: its frame must not be a table."""
        if frame >= len(self.status) or self.status[frame] & KIND == TABLE:
            self.note("wrong-frame", f"an entry is built for frame {frame}, which holds a page table, not struct pages")

    def slots_of(self, table: int) -> list[int]:
        """The PMD slots through which a walk may reach the table in frame `table`."""
        meaning = self.model.meaning
        found = {
            slot
            for slot, pmd in enumerate(self.contents[PMD_FRAME][: self.model.geometry.leaves])
            if meaning(pmd, 1)[:2] == ("table", table)
        }
        found |= {key - LEVEL1 for key, entry, _ in self.stale if key >= LEVEL1 and meaning(entry, 1)[:2] == ("table", table)}
        return sorted(found)

    def _reachable(self, frame: int, page: int) -> None:
        """The walker may fill a translation of `page` to `frame` from now on."""
        self.touched.append((FRAME, frame, 0))
        if frame >= len(self.status) or not self.is_live(frame):
            self.note("access-freed", f"vmemmap page {page} is mapped to frame {frame}, which is not the vmemmap's any more")
        elif self.status[frame] & STATUS == PRIVATE:
            self.status[frame] = ALLOCATED | self.status[frame] & KIND
        for of, source, target, index, changed in self.copies:
            if of == page and target == frame and changed:
                self.note("lost-update", f"struct page {index} of frame {source} was changed after it was copied to frame {target}")

    def _keep(self, key: int, old: int, level: int, now: int) -> None:
        """A TLB may hold `old`, which leaves the tables; the entry there is `now`, and was read from memory afresh."""
        if not self.model.live:
            return
        if self.model.meaning(old, level).cacheable or now >= 0:
            kept = {(k, e): mask for k, e, mask in self.stale if (k, e) != (key, now)}
            if self.model.meaning(old, level).cacheable:
                kept[key, old] = 0
            self.stale = tuple(sorted((k, e, mask) for (k, e), mask in kept.items()))

    # -- break-before-make --

    def _check_pmd(self, slot: int, old: int, value: int) -> None:
        if not self.model.rules.breaks_before_make or not self.model.live:
            return
        new = self.model.meaning(value, 1)
        if not new.cacheable:
            return
        for entry in [old] + [e for key, e, _ in self.stale if key == LEVEL1 + slot]:
            held = self.model.meaning(entry, 1)
            if entry != value and held.cacheable:
                self._check_pmd_pair(slot, entry, value)

    def _check_pmd_pair(self, slot: int, old: int, value: int) -> None:
        held, new = self.model.meaning(old, 1), self.model.meaning(value, 1)
        if held.kind != new.kind and not size_change_allowed(self.model.rules, contiguous_only=False):
            self.note("break-before-make", f"a live {_NAMES[held.kind]} is replaced by a {_NAMES[new.kind]}")
            return
        for index in range(self.leaf):
            a, b = self._page_entry(old, index), self._page_entry(value, index)
            if a is not None and b is not None and self._conflict(*a, *b):
                self.note("break-before-make", f"vmemmap page {slot * self.leaf + index} changes under a live PMD entry")
                return

    def _page_entry(self, pmd: int, index: int) -> tuple[int, int] | None:
        """(entry, frame) of page `index` under a PMD entry; None where there is nothing a TLB may hold."""
        meaning = self.model.meaning(pmd, 1)
        if meaning.kind == "leaf":
            return pmd, meaning.frame + index
        entry = self.contents[meaning.frame][index]
        page = self.model.meaning(entry, 0)
        return (entry, page.frame) if page.cacheable else None

    def _check_pte(self, slot: int, page: int, old: int, value: int) -> None:
        if not self.model.rules.breaks_before_make or not self.model.live or not self.model.meaning(value, 0).cacheable:
            return
        frame = self.model.meaning(value, 0).frame
        held = [old] + [entry for key, entry, _ in self.stale if key == page]
        pairs = [(entry, self.model.meaning(entry, 0).frame) for entry in held if entry != value and self.model.meaning(entry, 0).cacheable]
        for key, entry, _ in self.stale:
            block = self.model.meaning(entry, 1) if key == LEVEL1 + slot else None
            if block is not None and block.kind == "leaf":
                pairs.append((entry, block.frame + page % self.leaf))
        for entry, where in pairs:
            if self._conflict(entry, where, value, frame):
                why = "while a TLB may hold the old one"
                self.note("break-before-make", f"the entry of vmemmap page {page} goes from frame {where} to frame {frame} {why}")
                return

    def _conflict(self, old: int, old_frame: int, new: int, new_frame: int) -> bool:
        for frame in (old_frame, new_frame):
            self.touched += [(STRUCT_PAGE, frame * STRUCTS + index, 0) for index in range(STRUCTS)]
        same = old_frame == new_frame or self.contents[old_frame] == self.contents[new_frame]
        return needs_break(self.model.v.format, old, new, same_output=old_frame == new_frame, same_contents=same)

    # -- invalidation --

    def request(self, actor: int, first: int, last: int) -> None:
        """`actor` asks all CPUs to drop what translates the vmemmap pages `first` to `last`, and may wait for it later."""
        bit = 1 << actor
        for page in range(first, last + 1):
            self.touched.append((TRANSLATION, page, 2))
        self.stale = tuple([(key, entry, mask | bit if self._covers(key, first, last) else mask) for key, entry, mask in self.stale])

    def _covers(self, key: int, first: int, last: int) -> bool:
        if key < LEVEL1:
            return first <= key <= last
        slot = key - LEVEL1
        return first // self.leaf <= slot <= last // self.leaf

    def complete(self, actor: int, first: int, last: int) -> None:
        """Every CPU has done what `actor` asked for, which was about the vmemmap pages `first` to `last`."""
        bit = 1 << actor
        for page in range(first, last + 1):
            self.touched.append((TRANSLATION, page, 2))
        self.stale = tuple([held for held in self.stale if not held[2] & bit])

    # -- frames --

    def free(self, frame: int) -> None:
        """Give a frame back to the page allocator."""
        state = self.status[frame] if 0 <= frame < len(self.status) else FREE
        self.touched += [(FRAME, frame, 1), (ALLOCATOR, 1, 2)]
        if state & STATUS not in (ALLOCATED, PRIVATE):
            self.note("leak", f"frame {frame} is freed, and is {'gone' if state & STATUS == VANISHED else 'free already'}")
            return
        if state & STATUS == ALLOCATED:
            self._check_unused(frame)
        self.status[frame] = FREE if state & STATUS == PRIVATE else GIVEN
        self.fill(frame, EMPTY)
        self.copies = tuple([copy for copy in self.copies if frame not in (copy[1], copy[2])])

    def _check_unused(self, frame: int) -> None:
        """Nothing that is in the tables or may be in a TLB leads to `frame`."""
        touched = self.touched
        if self.slots_of(frame):
            self.note("freed-table", f"the table in frame {frame} is freed while a CPU may walk it")
        for page in range(self.model.geometry.vmemmap_pages):
            self.touched = []  # a page that cannot lead there now can only by a step that touches the frame
            if any(meaning.kind == "leaf" and meaning.frame == frame for meaning in self.translations(page)):
                self.note("freed-while-cached", f"frame {frame} is freed while a CPU may hold a translation of vmemmap page {page} to it")
                touched.append((TRANSLATION, page, 0))
        self.touched = touched


_NAMES = {"leaf": "block", "table": "table"}
