"""Prompts that are learned: context vectors in front of words, and what is kept of them."""
