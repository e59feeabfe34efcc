"""Sinks: operators without outputs."""
