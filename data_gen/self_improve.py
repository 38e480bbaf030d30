"""Apply a method to its own output, again and again: train, collect, repeat (sibench/bench/self_improve.py).

    python -m data_gen.self_improve --method vfo --rounds 20 --task hopper --dataset bc-5 --reward disc

Flags that this command does not know are those of the method.
"""

from dataclasses import dataclass

from sibench.core import cli
from sibench.core.ids import EPISODES


@dataclass(frozen=True)
class Config:
    """Improve upon a dataset, then upon the improved policy's own data, and so on."""

    method: str
    """A file of algorithms/, without suffix."""
    rounds: int = 20
    """Times to train."""
    episodes: int = EPISODES
    """Episodes that each policy plays for the next round."""
    drop_data: bool = False
    """Delete a dataset once it has been learned from; its card is kept."""


def main(config: Config, words: list[str]) -> None:
    from sibench.bench.self_improve import Chain, improve
    from sibench.learning import methods
    from sibench.learning.main import parse

    method = methods.load(config.method)
    options = parse(method, words, f"python -m data_gen.self_improve --method {config.method}")
    improve(Chain(method, options, config.rounds, config.episodes, config.drop_data))


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.self_improve", rest=True)
