"""What a run measures about itself: histograms and frozen snapshots of nodes, edges and workers."""
