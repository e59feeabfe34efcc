"""Sources: operators without inputs."""
