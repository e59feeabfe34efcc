"""Parts that several networks share: attention, blocks, positions, diffusion steps, training."""
