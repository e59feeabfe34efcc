"""How a face reaches a camera: a seeded physical model of real faces, prints, screens and masks."""
