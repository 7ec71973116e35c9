"""What devices do, and how their readings leave them on time."""
