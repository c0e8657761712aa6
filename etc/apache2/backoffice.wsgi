"""What mod_wsgi runs; backoffice-wsgi.conf names this file.

Apache is the proxy that the application trusts, in the same process. So here
the request is told as a proxy at a Unix socket tells it: the client's address
and the user that Apache has found, and nothing that the client itself has
claimed about either.

[auth] user_header must be X-Remote-User, its default, and unix among [web]
proxies, as by default.
"""

from backoffice.web.wsgi import application as _application

_CLAIMS = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP", "HTTP_X_REMOTE_USER")


def application(environ, start_response):
    for key in [key for key in environ if key.startswith(_CLAIMS)]:
        del environ[key]
    if "REMOTE_USER" in environ:
        environ["HTTP_X_REMOTE_USER"] = environ["REMOTE_USER"]
    environ["HTTP_X_FORWARDED_FOR"] = environ["REMOTE_ADDR"]
    environ["REMOTE_ADDR"] = ""

    # With 200, Apache would take Location for an order to fetch that instead.
    def start(status, headers, exc_info=None):
        if status.startswith("200"):
            headers = [("Content-" * (k.lower() == "location") + k, v) for k, v in headers]
        return start_response(status, headers, exc_info)

    return _application(environ, start)
