"""Presentation attack detection: how it is measured, and how scores become a decision."""
