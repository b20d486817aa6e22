"""The steps of a tick, a file each: `run_once(house, ...)` does one batch and returns its counts."""
