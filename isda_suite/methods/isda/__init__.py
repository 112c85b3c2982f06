"""ISDA: position-aware instance segmentation with deformable attention."""
