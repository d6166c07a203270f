"""Rewrites of whole plans, one file each; ``rewrite.py`` applies them in order."""

from graph.cypher.rules.rewrite import rewrite_plan

__all__ = ["rewrite_plan"]
