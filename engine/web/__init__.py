"""The live page of a run: previews, nodes and edges, events, metrics; on this computer only."""
