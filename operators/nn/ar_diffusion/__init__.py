"""AR-Diffusion: video frame by frame, each frame at a diffusion timestep of its own."""
