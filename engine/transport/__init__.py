"""How one edge crosses: outbox and inbox, and the links between them (inproc, ipc + slab, tcp)."""
