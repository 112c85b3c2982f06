"""What runs the parts of the DefVisTR goldens, by area."""
