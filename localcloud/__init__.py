"""An embedded AWS: one process, one loopback port, moto behind our own data planes."""
