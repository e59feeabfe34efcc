"""Benchmarks: one module per question, `python -m bench NAME`; `python -m bench report` for all."""
