"""Those who take part, one module each, with the worker process that it runs."""
