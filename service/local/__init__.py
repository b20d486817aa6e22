"""What a laptop has instead of Runway and a server: a simulator, a database, a cron service."""
