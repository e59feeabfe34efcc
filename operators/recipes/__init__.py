"""How the systems are trained and judged: `frameloom train`, `eval`, `calibrate`."""
