"""How one edge crosses: outbox and inbox, and the links between them (inproc, ipc + slab, tcp).

A producer puts into `outbox.Outbox`; a consumer takes from a `link.Inbox`, which is an
`inproc.InprocInbox` within a worker or what `hub.Hub.connect` gives between workers. `hub.Hub` is
the one thread that owns a worker's sockets; `epochs.EpochTable` is what it has heard of epochs;
`keys.KeyRing` are the keys of links between hosts. Everything else here serves these.
"""
