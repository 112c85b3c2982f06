"""Labels of other programs, into one annotation file in COCO format."""
