"""Closed-form repair: the weights that are left make up for those that are gone."""

from __future__ import annotations

from .sequential import Repaired, fold

__all__ = ["Repaired", "fold"]
