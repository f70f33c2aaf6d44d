"""rewrites."""
