"""What runs the parts of the IUQ goldens, by base model."""
