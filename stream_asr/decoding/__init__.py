"""From the model's output to words."""
