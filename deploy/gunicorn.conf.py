"""For those who start gunicorn by themselves: ``gunicorn -c deploy/gunicorn.conf.py wsgi:app``.

The options are those of ``receiver web``, from the same RECEIVER_* settings. With several processes, set
PROMETHEUS_MULTIPROC_DIR to an empty folder, so that /metrics shows the sum.
"""

from receiver.config import read_settings
from receiver.web.server import options

globals().update(options(read_settings()))
