"""The steps of a tick, a file each: `run_once(ctx, ...)` does one batch and returns its counts."""
