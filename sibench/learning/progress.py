"""One line of progress, the same for learners, experts and the ladder."""

import sys
import time


class Progress:
    """Prints how far a loop of updates is, how fast it goes, and how long it will take."""

    def __init__(self, name: str, total: int, done: int = 0):
        self.name, self.total, self.first, self.start = name, total, done, time.monotonic()

    def show(self, done: int, *words: str, keep: bool = True) -> None:
        """Print a line. Without `keep` it is overwritten by the next one, and left out unless this is a terminal."""
        terminal = sys.stdout.isatty()
        if not (keep or terminal):
            return
        shown = [f"{self.name} {done:>8}", *words]
        if (rate := (done - self.first) / (time.monotonic() - self.start)) > 0:
            shown.append(f"{rate:.0f} updates/s  {(self.total - done) / rate / 60:.0f} min left")
        line = "  ".join(shown)
        print(f"\r\x1b[K{line}" if terminal else line, end="\n" if keep else "", flush=True)
