"""What is kept in a folder, so that a cloud that was killed goes on where it was."""
