"""Real servers for tests, started on loopback when the first test asks for one."""
