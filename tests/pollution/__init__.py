"""Polluted files: one clean table written in every broken way of a published list, and how well each reader reads it."""
