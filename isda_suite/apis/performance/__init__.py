"""What a model costs: time, memory, multiply-adds, and what makes it cheaper."""
