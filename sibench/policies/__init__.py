"""Policies: their networks, the files they are stored in, the ones that ship, and how good one is."""

from sibench.policies.policy import Policy, load, read_description, save

__all__ = ["Policy", "load", "read_description", "save"]
