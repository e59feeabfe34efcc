"""Measures of generated video: pictures, sets of clips, moving things, their physics."""
