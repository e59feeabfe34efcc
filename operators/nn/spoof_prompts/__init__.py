"""Unknown-spoof prompts: anti-spoofing learned from real faces of one domain only."""
