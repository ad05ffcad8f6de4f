"""The dashboard in a real browser, against the running service and the sandbox."""
