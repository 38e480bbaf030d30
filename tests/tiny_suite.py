"""Shared by tests of suites: settings of a suite that runs in seconds."""

TINY = {
    "hidden": (8, 8),
    "batch_size": 8,
    "steps": 60,
    "disc_steps": 20,
    "seeds": 2,
    "evals": 1,
    "eval_episodes": 1,
    "final_episodes": 3,
    "demos": 3,
    "expert": "expert-n3",
}
BC_ONLY = {name: value for name, value in TINY.items() if name != "disc_steps"}
"""The same, for suites in which no method has a discriminator."""
