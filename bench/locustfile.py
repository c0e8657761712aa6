"""What operators and scripts do all day, for Locust; workers are real ones beside it.

``locust -f bench/locustfile.py --host http://127.0.0.1:8080`` loads a server
that has the bench's workflow ``noop``; ``python -m bench load`` does it all.
"""

from __future__ import annotations

import random
import re
import uuid

from locust import HttpUser, between, task

HTML = {"Accept": "text/html"}
JOB = """<job xmlns="urn:backoffice:1" workflow="noop" key="{key}">
  <title>Load {key}</title><metadata name="dc:creator">Locust</metadata>
</job>"""


class Operator(HttpUser):
    """Watches and steers in a browser: pages, and a poll every second or two."""

    weight = 3
    wait_time = between(0.5, 2)

    def on_start(self) -> None:
        self.last = 0
        self.tag = ""
        self.jobs: list[str] = []

    @task(10)
    def poll(self) -> None:
        path = f"/events.json?after={self.last}"
        headers = {"If-None-Match": self.tag} if self.tag else {}
        with self.client.get(path, headers=headers, name="/events (poll)") as answer:
            if answer.status_code != 200:
                return
            events = answer.json()["events"]
            self.tag = "" if events else answer.headers.get("ETag", "")
            self.last = events[-1]["id"] if events else self.last

    @task(2)
    def overview(self) -> None:
        self.client.get("/", headers=HTML)

    @task(3)
    def list_jobs(self) -> None:
        query = random.choice(["", "?state=failed", "?workflow=noop", "?q=load", "?state=running"])
        answer = self.client.get(f"/jobs{query}", headers=HTML, name="/jobs (page)")
        self.jobs = re.findall(r'href="/jobs/(\d+)"', answer.text)[:20] or self.jobs

    @task(3)
    def look_at_a_job(self) -> None:
        if self.jobs:
            path = f"/jobs/{random.choice(self.jobs)}"
            self.client.get(path, headers=HTML, name="/jobs/{id} (page)")

    @task(1)
    def look_around(self) -> None:
        path = random.choice(["/queues", "/workers", "/workflows", "/files", "/events"])
        self.client.get(path, headers=HTML)


class Script(HttpUser):
    """Submits, follows and steers over XML."""

    weight = 1
    wait_time = between(0.2, 1)

    @task(4)
    def submit_and_follow(self) -> None:
        body = JOB.format(key=uuid.uuid4().hex)
        headers = {"Content-Type": "application/xml"}
        answer = self.client.post("/jobs", body, headers=headers, name="POST /jobs")
        if answer.status_code != 201:
            return
        where = answer.headers["Location"]
        self.client.get(where, name="/jobs/{id}")
        self.client.get(f"{where}/why", name="/jobs/{id}/why")

    @task(2)
    def page_through(self) -> None:
        path = "/jobs?limit=50"
        for _ in range(3):
            answer = self.client.get(path, name="/jobs (XML)")
            found = re.match(
                r'<(?:https?://[^/]+)?([^>]+)>; rel="next"', answer.headers.get("Link", "")
            )
            if not found:
                return
            path = found[1]

    @task(1)
    def submit_twice(self) -> None:
        body = JOB.format(key=uuid.uuid4().hex)
        headers = {"Content-Type": "application/xml"}
        for status in (201, 200):
            with self.client.post(
                "/jobs", body, headers=headers, name="POST /jobs", catch_response=True
            ) as answer:
                if answer.status_code != status:
                    answer.failure(f"{answer.status_code} instead of {status}")

    @task(1)
    def pause_and_resume(self) -> None:
        """What has ended meanwhile answers 409, and that is right."""
        body = JOB.format(key=uuid.uuid4().hex)
        headers = {"Content-Type": "application/xml"}
        where = self.client.post("/jobs", body, headers=headers, name="POST /jobs").headers[
            "Location"
        ]
        for action in ("pause", "resume", "cancel"):
            with self.client.post(
                f"{where}/{action}", name="POST /jobs/{id}/…", catch_response=True
            ) as answer:
                if answer.status_code in (200, 409):
                    answer.success()
