"""What mod_wsgi runs; etc/apache/backoffice-wsgi.conf names this file.

Apache is the proxy that the application trusts, in the same process. So here
the request is told as a proxy tells it: the client's address and the user that
Apache has found, and nothing that the client itself has claimed about either.

[auth] user_header must be X-Remote-User, its default, and 127.0.0.1 among
[web] proxies, as by default.
"""

from backoffice.web.wsgi import application as _application

_CLAIMS = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP", "HTTP_X_REMOTE_USER")


def application(environ, start_response):
    for key in [key for key in environ if key.startswith(_CLAIMS)]:
        del environ[key]
    if "REMOTE_USER" in environ:
        environ["HTTP_X_REMOTE_USER"] = environ["REMOTE_USER"]
    environ["HTTP_X_FORWARDED_FOR"] = environ["REMOTE_ADDR"]
    environ["REMOTE_ADDR"] = "127.0.0.1"
    return _application(environ, start_response)
