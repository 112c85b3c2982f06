"""What queries look at, answer to, and become step by step."""
