"""How fast a run goes, and how much of that is waiting for data."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

RECENT = 50  # steps whose mean is shown
Item = TypeVar("Item")


class Pace:
    """Seconds of the last steps, from asking for the examples to the end of the update, validation left out."""

    def __init__(self) -> None:
        self.waited = 0.0  # seconds, by the last step
        self._asked = 0.0
        self._steps: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, each wait timed."""
        source = iter(items)
        while True:
            self._asked = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited = time.perf_counter() - self._asked
            yield item

    def stepped(self) -> None:
        """The step of the last item is done."""
        self._steps.append((time.perf_counter() - self._asked, self.waited))

    @property
    def steps_per_second(self) -> float:
        return len(self._steps) / sum(whole for whole, _ in self._steps)

    @property
    def waiting(self) -> float:
        """Share of the time."""
        return sum(waited for _, waited in self._steps) / sum(whole for whole, _ in self._steps)
