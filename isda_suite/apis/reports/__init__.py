"""What a test found: one HTML file, errors by kind, confusions."""
