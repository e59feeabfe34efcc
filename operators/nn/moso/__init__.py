"""MOSO: a clip as tokens of its scene, its objects and its motion; tokens of what comes next."""
