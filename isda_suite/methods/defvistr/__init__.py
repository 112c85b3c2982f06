"""DefVisTR: video instance segmentation with spatio-temporal deformable attention."""
