"""Hostile input for every command: how it is made, run within limits, and judged."""
