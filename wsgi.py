"""For any WSGI server: ``app``, from the environment's settings."""

from receiver.web import create_app

app = create_app()
