"""The leaderboard: submissions, which anyone can check, and a page that shows them.

entry = Entry("quick", "nearest neighbour", commits=["<40 hex digits>"], hardware="a laptop")
entry.add(background, seed, sibench.evaluate(policy, "hopper", episodes=100))  # for every dataset and seed
entry.write("submissions")
"""

from typing import Any

__all__ = ["Entry"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `--help` need not wait for jax."""
    if name != "Entry":
        raise AttributeError(f"module 'sibench.leaderboard' has no attribute '{name}'")
    from sibench.leaderboard.entry import Entry

    return Entry
