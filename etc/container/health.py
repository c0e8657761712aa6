"""Whether the web server of this container is ready: exit status 0, or 1 with its reasons."""

import os
import sys

import httpx

from backoffice.config import loading

listen = loading.load(None, os.environ).web.listen
if isinstance(listen, tuple):
    base, transport = f"http://{listen[0]}:{listen[1]}", httpx.HTTPTransport()
else:
    base, transport = "http://localhost", httpx.HTTPTransport(uds=str(listen))
try:
    with httpx.Client(transport=transport, timeout=5) as client:
        # By a name that is always served: it may listen at 0.0.0.0.
        answer = client.get(f"{base}/health/ready", headers={"Host": "localhost"})
except httpx.HTTPError as error:
    sys.exit(f"no answer from {listen}: {error}")
if answer.status_code != 200:
    sys.exit(answer.text)
