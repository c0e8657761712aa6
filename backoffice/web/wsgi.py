"""The WSGI entry point for other servers: ``application``.

Settings are found as by the command line: BACKOFFICE_CONFIG names the file. To
import this module is to read them and to make the application; whoever only
wants the function takes ``backoffice.web.app.make_app``.

    gunicorn --worker-class gthread --workers 2 --threads 8 \\
        --bind unix:/run/backoffice/web.sock backoffice.web.wsgi:application
    waitress-serve --listen 127.0.0.1:8080 --threads 8 --max-request-header-size 16384 \\
        backoffice.web.wsgi:application
    twist web --listen tcp:8080:interface=127.0.0.1 --wsgi backoffice.web.wsgi.application

With several processes set [auth] secret, or a form of one is refused by the
others; each allows [web] rate. [web] listen, threads and the time limits are
the other server's business then. It must not be reached by strangers directly:
only ``backoffice web`` refuses all that is framed loosely. mod_wsgi:
etc/apache2/backoffice-wsgi.conf.

No connection to the database is opened before the first request, so servers
may fork after the import.
"""

from __future__ import annotations

import os
import sys

from backoffice.config import loading
from backoffice.errors import BackofficeError
from backoffice.system import logs
from backoffice.system.preflight import prepare_folders
from backoffice.system.protection import protect_process
from backoffice.web.app import Application, make_app

# gunicorn gives up on a worker that ends so; any other it would start for ever.
GIVE_UP = 3


def _make() -> Application:
    protect_process()
    settings = loading.load(None, os.environ)
    logs.setup(settings.log)
    prepare_folders(settings)
    return make_app(settings)


try:
    application = _make()
except BackofficeError as error:
    print(f"backoffice: {error}", file=sys.stderr)
    raise SystemExit(GIVE_UP) from None
