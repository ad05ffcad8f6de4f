"""What is in deploy/: read, checked, and run where this machine can."""
