"""Scripts that fine-tune and score models; each reads top to bottom."""
