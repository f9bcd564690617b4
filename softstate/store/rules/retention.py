"""Which revisions are old enough to forget, without a wall clock.

A store keeps no commit times, and clocks of several nodes do not agree. But a node that saw the head at revision r a
while ago knows that every change at or below r is at least that old. So it notes the head it saw, and when. A node
that has just started knows no age at all and forgets nothing. Errors are on the side of keeping longer.

The notes are bounded as in an exponential histogram (Datar, Gionis, Indyk, Motwani, "Maintaining stream statistics
over sliding windows", SODA 2002): marks lie the further apart the older they are, so that an answer errs by about a
quarter of the age asked about.
"""

from __future__ import annotations

MARKS_MAX = 64
"""How many marks are kept. From one second to a day that is one for each 20 % of age."""

MARK_GAP_S = 1.0
"""The least time between two marks, in seconds, except before the newest."""


class RetentionClock:
    """The heads that one process has seen, and when. Times are of any clock of this process that never goes back.

    What it knows belongs to one history: begin with a new one after the store was rewound.
    """

    def __init__(self, marks_max: int = MARKS_MAX) -> None:
        self._marks_max = marks_max
        self._marks: list[tuple[float, int]] = []
        self._longest_age_s = 0.0

    def __len__(self) -> int:
        return len(self._marks)

    def saw(self, now: float, revision: int) -> None:
        """Note that the head is at `revision` at time `now`, in seconds."""
        marks = self._marks
        if marks and revision < marks[-1][1]:
            marks.clear()
        if marks and revision == marks[-1][1]:
            return
        if len(marks) > 1 and marks[-1][0] - marks[-2][0] < MARK_GAP_S:
            marks.pop()
        marks.append((now, revision))
        if len(marks) > self._marks_max:
            self._thin(now)

    def passed(self, now: float, age_s: float) -> int:
        """Return the highest revision known to be at least `age_s` seconds old; 0 when none is known to be."""
        self._longest_age_s = max(self._longest_age_s, age_s)
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - self._longest_age_s:
            del marks[0]
        return max((revision for seen, revision in marks if seen <= now - age_s), default=0)

    def _thin(self, now: float) -> None:
        """Drop the mark that is missed least: the one whose neighbours lie closest together for their age.

        Without it, its revisions count as seen when its successor was: later, hence kept longer.
        """
        marks = self._marks

        def gap(at: int) -> float:
            older, newer = marks[at - 1][0], marks[at + 1][0]
            return (newer - older) / (now - older) if now > older else 0.0

        del marks[min(range(1, len(marks) - 1), key=gap)]
