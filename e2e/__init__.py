"""End-to-end suites: what a nightly run asserts on AWS, and anyone at any time locally."""
