"""One state, unpacked so that steps can be done on it: memory, what TLBs may hold, frames.
`perform` in `hvo.check.effects` does the steps.

A TLB is a may-set: the entries in the tables, which a walker may fill on any CPU at any time, plus
those in `stale`, each with the CPUs that have not dropped it.
"""

from typing import Any

from hvo.check.model.break_before_make import check_pmd, check_pte
from hvo.check.model.footprint import ALLOCATOR, FRAME, PHYSICAL, TRANSLATION, Touched
from hvo.check.model.geometry import KERNEL_FRAME, PAGE, PMD_FRAME
from hvo.check.model.state import (
    ALLOCATED,
    EMPTY,
    FREE,
    FREED_TO_BUDDY,
    KIND,
    LEVEL1,
    OFFLINED,
    PRIVATE,
    STATUS,
    STRUCT,
    TABLE,
    Meaning,
    Model,
    State,
)
from hvo.check.model.store_buffer import forget_stores, publish
from hvo.check.model.tlb import keep
from hvo.steps.base import Step


class Fault(Exception):
    """A step that cannot be finished: what was violated has been noted."""


class Waits(Exception):
    """An access that met a broken entry, and waits in the fault handler until it is made."""


class World:
    """A state in the making.

    `actor` is whose step it is, and `early` the load behind it that was done instead; `found`
    collects what was violated in which step, `done` counts steps, `urgent` says that the actor may
    not wait, `touched` what the last step read and changed.
    """

    __slots__ = (
        "actor",
        "actors",
        "choices",
        "contents",
        "copies",
        "counters",
        "dirty",
        "done",
        "early",
        "extra",
        "failures",
        "found",
        "leaf",
        "model",
        "numbers",
        "stale",
        "status",
        "taken",
        "touched",
        "urgent",
    )

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
        self.actor = 0
        self.early: Step | None = None
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
        return State(
            numbers,
            bytes(self.status),
            self.stale,
            self.counters,
            self.copies,
            self.failures,
            self.extra,
            tuple(self.actors),
        )

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

    def translations(self, page: int, cpus: int) -> list[Meaning]:
        """Everything that one of `cpus` (bits) may use for vmemmap page `page`: leaves of pages,
        "none" where a walk may end in a fault.
        """
        slot, index = divmod(page, self.leaf)
        model = self.model
        out: list[Meaning] = []
        self.touched.append((TRANSLATION, page, 0))
        pmds = [self.contents[PMD_FRAME][slot]]
        for key, entry, mask in self.stale:
            if not mask & cpus:
                continue
            if key == page:
                out.append(model.meaning(entry, 0))
            elif key == LEVEL1 + slot:
                pmds.append(entry)
        for pmd in pmds:
            meaning = model.meaning(pmd, 1)
            if meaning.kind == "leaf":
                out.append(
                    Meaning("leaf", meaning.frame + index, meaning.writable, meaning.cacheable)
                )
            elif meaning.kind == "table":
                if self.status[meaning.frame] & STATUS not in (ALLOCATED, PRIVATE):
                    self.note(
                        "freed-table",
                        f"a walk for vmemmap page {page} reads the table in frame {meaning.frame},"
                        " which is free",
                    )
                out.append(model.meaning(self.contents[meaning.frame][index], 0))
            else:
                out.append(meaning)
        return out

    def is_live(self, frame: int) -> bool:
        """Whether a frame that the vmemmap maps is still its own."""
        state = self.status[frame]
        return state & STATUS in (ALLOCATED, PRIVATE) and state & KIND in (0, STRUCT)

    def frames_of(self, page: int, *, write: bool, what: str) -> list[int]:
        """The frames that an access to the vmemmap page `page` may reach; notes what must not
        happen on the way.
        """
        if not 0 <= page < self.model.geometry.vmemmap_pages:
            raise self.fault("wrong-head", f"{what} leaves the vmemmap: a link leads nowhere")
        usable: list[int] = []
        before, waits = len(self.found), False
        for meaning in self.translations(page, self.model.cpu(self.actor)):
            if meaning.kind != "leaf":
                waits = self._meet_invalid(page, what) or waits
            elif not meaning.cacheable and not self._set_access_flag(page):
                self.note(
                    "access-invalid",
                    f"{what} meets an entry of vmemmap page {page} whose access flag is clear",
                )
            elif write and not meaning.writable:
                self.note(
                    "write-read-only",
                    f"{what} writes vmemmap page {page}, which is mapped read-only",
                )
            elif write and self._is_shared_tail(page, meaning.frame):
                self.note(
                    "shared-tail-written",
                    f"{what} writes vmemmap page {page}, whose frame {meaning.frame} other tails"
                    " share",
                )
            elif not self.is_live(meaning.frame):
                self.note(
                    "access-freed",
                    f"{what} reaches frame {meaning.frame} by vmemmap page {page}: it is not the"
                    " vmemmap's any more",
                )
            elif meaning.frame not in usable:
                usable.append(meaning.frame)
                self.touched.append((FRAME, meaning.frame, 0))
        self._conflict_abort(page, what)
        if len(self.found) > before:
            raise Fault
        if waits and not usable:
            raise Waits
        return usable

    def _is_shared_tail(self, page: int, frame: int) -> bool:
        """Whether vmemmap page `page` is a tail's and shows other tails' frame, on a machine that
        lets it be written.
        """
        v, g = self.model.v, self.model.geometry
        head, index = page - page % g.group, page % g.group
        if v.format.protects or index < v.era.layout.kept_pages:
            return False
        others = [other for other in range(head, head + g.used) if other != page]
        return frame == self.contents[KERNEL_FRAME][0] - 1 or any(
            meaning.kind == "leaf" and meaning.frame == frame
            for other in others
            for meaning in self.translations(other, 0)
        )

    def _meet_invalid(self, page: int, what: str) -> bool:
        """A fault in kernel mode is an error, unless it is handled by waiting and the one who meets
        it may wait -> whether it waits.
        """
        if self.extra[2] and not self.urgent:
            return True
        waiting = " where it cannot wait" if self.extra[2] else ""
        self.note(
            "access-invalid", f"{what} meets an invalid entry of vmemmap page {page}{waiting}"
        )
        return False

    def _set_access_flag(self, page: int) -> bool:
        """The walker finds the access flag clear -> whether the hardware sets it; else the access
        faults.
        """
        slot, index = divmod(page, self.leaf)
        table = self.model.meaning(self.contents[PMD_FRAME][slot], 1)
        if not self.model.hardware.hardware_access_flag or table.kind != "table":
            return False
        self.set_access_flag(table.frame, index)
        return True

    def is_flag_for_walkers(self, table: int, index: int, level: int) -> bool:
        """Whether the entry is a leaf whose access flag is clear, on a machine whose walkers set
        it.
        """
        if level or not self.model.hardware.hardware_access_flag:
            return False
        meaning = self.model.meaning(self.contents[table][index], 0)
        return meaning.kind == "leaf" and not meaning.cacheable

    def walk_on_a_guess(self, table: int, index: int, level: int) -> None:
        """Before an entry is written, a walker may have set a clear access flag with no access
        (FEAT_HAFDBS lets it do so).
        """
        if self.is_flag_for_walkers(table, index, level) and self.choose(2):
            self.set_access_flag(table, index)

    def set_access_flag(self, table: int, index: int) -> None:
        """The hardware sets the access flag of a page's entry."""
        pages = [slot * self.leaf + index for slot in self.slots_of(table)]
        self.touched += [
            (PHYSICAL, table * PAGE + 8 * index, 1),
            *((TRANSLATION, page, 1) for page in pages),
        ]
        self.put(table, index, self.contents[table][index] | self.model.v.format.accessed)

    def _conflict_abort(self, page: int, what: str) -> None:
        """With FEAT_BBM level 2 entries of two sizes may make the TLB abort, except on cores known
        not to.
        """
        hardware = self.model.hardware
        if not hardware.breaks_before_make or hardware.bbm_level != 2 or hardware.noabort:
            return
        slot, index = divmod(page, self.leaf)
        stale = [entry for key, entry, _ in self.stale if key == LEVEL1 + slot]
        pmd = self.model.meaning(self.contents[PMD_FRAME][slot], 1)
        kinds = {self.model.meaning(entry, 1).kind for entry in stale}
        if stale and kinds | {pmd.kind} >= {"leaf", "table"}:
            self.note(
                "access-invalid", f"{what} meets a block and its table at once: TLB conflict abort"
            )
        stale = [entry for key, entry, _ in self.stale if key == page]
        entries = stale + ([self.contents[pmd.frame][index]] if pmd.kind == "table" else [])
        groups = {
            self.model.v.format.is_contiguous(entry)
            for entry in entries
            if self.model.meaning(entry, 0).cacheable
        }
        if stale and len(groups) > 1:
            self.note(
                "access-invalid",
                f"{what} meets an entry of a contiguous group and one of none at once: TLB conflict"
                " abort",
            )

    # -- entries --

    def write_entry(self, location: int, value: int, level: int) -> None:
        """Write an entry, remember what a TLB may still hold of the old one, and look at what
        becomes reachable.
        """
        frame, index = location // PAGE, location % PAGE // 8
        if self.status[frame] & STATUS not in (ALLOCATED, PRIVATE):
            raise self.fault(
                "freed-table", f"an entry is written into frame {frame}, which is free"
            )
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
        check_pmd(self, slot, old, value)
        before = self.model.meaning(old, 1)
        if old != value and before.kind == "table":
            for index in range(self.leaf):
                keep(self, slot * self.leaf + index, self.contents[before.frame][index], 0, -1)
        if old != value:
            keep(self, LEVEL1 + slot, old, 1, value)
        if new.kind == "table":
            self._publish_table(new.frame, slot)

    def _publish_table(self, table: int, slot: int) -> None:
        state = self.status[table]
        if state & STATUS not in (ALLOCATED, PRIVATE):
            self.note("freed-table", f"the table in frame {table} is installed, and is free")
        else:
            publish(self, table)
            self.status[table] = ALLOCATED | TABLE
        self.touched.append((FRAME, table, 1))
        for index in range(self.leaf):
            meaning = self.model.meaning(self.contents[table][index], 0)
            if meaning.kind == "leaf":
                self._reachable(meaning.frame, slot * self.leaf + index)

    def _write_pte(self, frame: int, index: int, value: int) -> None:
        old = self.contents[frame][index]
        meaning = self.model.meaning(value, 0)
        if value:
            self.check_kind(meaning.frame)
        self.touched.append((FRAME, frame, 0))
        for slot in self.slots_of(frame):
            page = slot * self.leaf + index
            self.touched.append((TRANSLATION, page, 1))
            check_pte(self, slot, page, old, value)
            if old != value:
                keep(self, page, old, 0, value)
            if meaning.kind == "leaf":
                self._reachable(meaning.frame, page)

    def check_kind(self, frame: int) -> None:
        """An entry for a page of struct pages is being made: its frame must not be a table."""
        if frame >= len(self.status) or self.status[frame] & KIND == TABLE:
            self.note(
                "wrong-frame",
                f"an entry is built for frame {frame}, which holds a page table, not struct pages",
            )

    def slots_of(self, table: int) -> list[int]:
        """The PMD slots through which a walk may reach the table in frame `table`."""
        meaning = self.model.meaning
        found = {
            slot
            for slot, pmd in enumerate(self.contents[PMD_FRAME][: self.model.geometry.leaves])
            if meaning(pmd, 1)[:2] == ("table", table)
        }
        found |= {
            key - LEVEL1
            for key, entry, _ in self.stale
            if key >= LEVEL1 and meaning(entry, 1)[:2] == ("table", table)
        }
        return sorted(found)

    def _reachable(self, frame: int, page: int) -> None:
        """The walker may fill a translation of `page` to `frame` from now on."""
        self.touched.append((FRAME, frame, 0))
        if frame >= len(self.status) or not self.is_live(frame):
            self.note(
                "access-freed",
                f"vmemmap page {page} is mapped to frame {frame}, which is not the vmemmap's any"
                " more",
            )
            return
        publish(self, frame)
        if self.status[frame] & STATUS == PRIVATE:
            self.status[frame] = ALLOCATED | self.status[frame] & KIND
        for of, source, target, index, changed in self.copies:
            if of == page and target == frame and changed:
                self.note(
                    "lost-update",
                    f"struct page {index} of frame {source} was changed after it was copied to"
                    f" frame {target}",
                )

    # -- frames --

    def free(self, frame: int) -> None:
        """Give a frame back to the page allocator."""
        state = self.status[frame] if 0 <= frame < len(self.status) else FREE
        self.touched += [(FRAME, frame, 1), (ALLOCATOR, 1, 2)]
        if state & STATUS not in (ALLOCATED, PRIVATE):
            self.note(
                "leak",
                f"frame {frame} is freed, and is"
                f" {'gone' if state & STATUS == OFFLINED else 'free already'}",
            )
            return
        if state & STATUS == ALLOCATED:
            self._check_unused(frame)
        self.status[frame] = FREE if state & STATUS == PRIVATE else FREED_TO_BUDDY
        self.fill(frame, EMPTY)
        forget_stores(self, frame)
        self.copies = tuple([copy for copy in self.copies if frame not in (copy[1], copy[2])])

    def _check_unused(self, frame: int) -> None:
        """Nothing that is in the tables or may be in a TLB leads to `frame`."""
        touched = self.touched
        if self.slots_of(frame):
            self.note("freed-table", f"the table in frame {frame} is freed while a CPU may walk it")
        for page in range(self.model.geometry.vmemmap_pages):
            # A page that cannot lead there now can only by a step that touches the frame.
            self.touched = []
            if any(
                meaning.kind == "leaf" and meaning.frame == frame
                for meaning in self.translations(page, self.model.every_cpu)
            ):
                self.note(
                    "freed-while-cached",
                    f"frame {frame} is freed while a CPU may hold a translation of vmemmap page"
                    f" {page} to it",
                )
                touched.append((TRANSLATION, page, 0))
        self.touched = touched


def change(world: World, actor: int, item: int, value: Any) -> None:
    """Set one item of an actor's record."""
    record = world.actors[actor]
    changed: Any = (*record[:item], value, *record[item + 1 :])
    world.actors[actor] = changed


def set_extra(world: World, place: int, value: int) -> None:
    """Set one item of what the state holds beside its fields."""
    world.extra = (*world.extra[:place], value, *world.extra[place + 1 :])
