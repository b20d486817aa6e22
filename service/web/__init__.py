"""The HTTP surface. Handlers translate; the work is in steps and store."""
