"""The measured side of each model: the product, or its parts, driven event by event with a seed."""
