"""What goes out, and what of it comes back: the whole program against receivers of
this host. A user's URL is a password, and leads nowhere inside."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.site import Site
from tests.acceptance.test_logs import serving as service
from tests.receivers import HERE, KEY, Hook, serving

# In the URL: password, path, query. From the receiver: what it answers.
SECRETS = ("pass-word", "hook/KEY", "quiet-token", "inner-words", KEY, "between us")
XML = {"Content-Type": "application/xml"}


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


@pytest.fixture
def told(site: Site) -> str:
    """A workflow that hands its URL to a command, which repeats it, and to notify."""
    script = site.home / "repeat.sh"
    script.write_text('#!/bin/sh\necho "to $1"; echo "error $1" >&2; [ "$2" != fail ]\n')
    script.chmod(0o755)
    site.set("command repeat", argv=f"{script} {{parameter.to}} {{parameter.how}}")
    return site.recipe(
        "told",
        '<task name="repeat" type="command"><parameter name="command">repeat</parameter>'
        '<parameter name="to" from="url"/><parameter name="how" from="how"/></task>'
        '<task name="notify" type="notify" needs="repeat" backoff="10ms" attempts="3">'
        '<parameter name="url" from="url"/></task>',
        inputs='<parameter name="url" type="url" required="true"/>'
        '<parameter name="how" default="well"/>',
    )


def secret_url(hook: Hook) -> str:
    return f"{hook.url.replace('//', '//me:pass-word@')}?token=quiet-token"


def document(url: str, how: str = "well") -> str:
    return (
        '<job xmlns="urn:backoffice:1" workflow="told"><title>Told</title>'
        f'<parameter name="url">{url}</parameter><parameter name="how">{how}</parameter></job>'
    )


def number(answer: httpx.Response) -> int:
    assert answer.status_code == 201, answer.text
    return int(answer.headers["Location"].rpartition("/")[2])


def require_unseen(texts: dict[str, str]) -> None:
    for place, text in texts.items():
        for secret in SECRETS:
            assert secret not in text, f"{secret} in {place}:\n{text}"


def pages(client: httpx.Client, site: Site, job: int) -> dict[str, str]:
    """Everything that a viewer can see of a job, by address."""
    tasks = [row[0] for row in site.rows("SELECT id FROM task WHERE job_id = ?", job)]
    paths = [f"/jobs/{job}", f"/jobs/{job}/why", f"/jobs/{job}/tasks", "/jobs", "/events"]
    paths += [f"/tasks/{task}{more}" for task in tasks for more in ("", "/attempts", "/why")]
    paths += ["/workflows", "/workflows/told", "/"]
    found = {}
    for path in paths:
        for kind in ("application/xml", "application/json", "text/html"):
            answer = client.get(path, headers={"Accept": kind})
            assert answer.status_code == 200, (path, kind, answer.text)
            found[f"{path} {kind}"] = answer.text
    logs = {f"/tasks/{task}/log": client.get(f"/tasks/{task}/log").text for task in tasks}
    atom = client.get("/events", headers={"Accept": "application/atom+xml"}).text
    return {**found, **logs, "/events atom": atom}


def rows(site: Site) -> dict[str, str]:
    """What the database holds beside the URL itself, which attempts need."""
    tables = ("event", "attempt", "delivery", "job", "alert", "publication")
    return {table: str(site.rows(f"SELECT * FROM {table}")) for table in tables}


def logs(site: Site) -> dict[str, str]:
    folders = (site.home / "service", site.logs)
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): path.read_text(errors="replace") for path in paths}


def test_the_secrets_of_a_url_are_used_and_shown_nowhere(site: Site, hook: Hook, told: str) -> None:
    site.set("notify", secret=KEY, hosts=HERE)
    url, shown = secret_url(hook), f"http://127.0.0.1:{hook.server_address[1]}/…"
    hook.answers, hook.words = [500, 503, 410], "inner-words"
    with service(site, BACKOFFICE_LOG_LEVEL="debug") as client:
        plan = client.post("/jobs/dry-run", content=document(url), headers=XML)
        job = number(client.post("/jobs", content=document(url), headers=XML))
        assert site.ended(job) == "failed"
        assert hook.targets == ["/hook/KEY?token=quiet-token"] * 3
        seen = pages(client, site, job)
        assert shown in seen[f"/jobs/{job} application/json"]
        assert "410 Gone" in seen[f"/jobs/{job} text/html"]
        hook.words = ""
        assert client.post(f"/jobs/{job}/retry").status_code == 200
        assert site.ended(job) == "succeeded"
        copy = number(client.post(f"/jobs/{job}/clone"))
        assert site.ended(copy) == "succeeded"
        other = number(client.post("/jobs", content=document(url, "fail"), headers=XML))
        assert site.ended(other) == "failed"
        seen |= pages(client, site, copy) | pages(client, site, other)
        seen["plan"] = plan.text
    assert hook.targets == ["/hook/KEY?token=quiet-token"] * 5
    assert len({headers["authorization"] for headers, _ in hook.heard}) == 1
    arguments = ("submit", "told", "--param", f"url={url}", "--dry-run")
    commands = [("job", str(job)), ("job", str(job), "--json"), ("events",), ("why", str(job))]
    for command in [*commands, arguments]:
        done = site.run(*command)
        assert done.returncode == 0, done.stderr
        seen[" ".join(command[:2])] = done.stdout + done.stderr
    require_unseen(seen | rows(site) | logs(site))
    assert shown in seen["submit told"]


def test_a_recipe_keeps_the_secrets_of_its_urls(site: Site, hook: Hook) -> None:
    site.set("notify", secret=KEY, hosts=HERE)
    url = secret_url(hook)
    name = site.recipe(
        "fixed",
        f'<task name="notify" type="notify"><parameter name="url">{url}</parameter></task>'
        f'<task name="never" type="noop"><when fact="parameter.to" equals="{url}x"/></task>',
        inputs=f'<parameter name="to" type="url" default="{url}"/>',
    )
    with service(site) as client:
        seen = {
            f"{path} {kind}": client.get(path, headers={"Accept": kind}).text
            for path in ("/workflows", f"/workflows/{name}", f"/submit?workflow={name}")
            for kind in ("application/xml", "application/json", "text/html")
        }
        job = number(
            client.post(
                "/jobs",
                content=document(url)
                .split("<title>")[0]
                .replace('workflow="told"', f'workflow="{name}"')
                + "</job>",
                headers=XML,
            )
        )
        assert site.ended(job) == "succeeded"
        seen["job"] = client.get(f"/jobs/{job}", headers={"Accept": "text/html"}).text
        seen["events"] = client.get("/events").text
    assert f"http://127.0.0.1:{hook.server_address[1]}/…" in seen[f"/workflows/{name} text/html"]
    assert hook.targets == ["/hook/KEY?token=quiet-token"]
    require_unseen(seen | rows(site) | logs(site))


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::1]"])
def test_by_default_nothing_inside_is_reached(site: Site, hook: Hook, told: str, host: str) -> None:
    site.set("notify", secret=KEY)
    site.start("scheduler", "worker")
    url = f"http://{host}:{hook.server_address[1]}/"
    job = site.submit(told, parameters={"url": url})
    assert site.ended(job) == "failed"
    assert "its host is at an address that [notify] hosts does not allow" in site.message(job)
    assert [one.state for one in site.attempts(job)] == ["succeeded", "failed"]  # once
    assert hook.heard == []


def test_without_a_key_a_job_that_notifies_is_refused(site: Site, hook: Hook, told: str) -> None:
    with service(site) as client:
        answer = client.post("/jobs", content=document(hook.url), headers=XML)
        assert answer.status_code == 400
        assert "[notify] secret, which signs messages, is not set" in answer.text
    done = site.run("submit", told, "--param", f"url={hook.url}")
    assert done.returncode == 2
    assert "[notify] secret, which signs messages, is not set" in done.stderr
    assert "off: jobs that notify are refused" in site.run("check").stdout
    site.set("notify", secret=KEY, hosts="public hooks.example.org")
    told_by_check = site.run("check").stdout
    assert "signs with 1 key, sends to public hooks.example.org" in told_by_check
    assert KEY not in told_by_check


def test_a_url_that_was_shortened_to_be_shown_is_not_taken_for_one(
    site: Site, hook: Hook, told: str
) -> None:
    site.set("notify", secret=KEY, hosts=HERE)
    with service(site) as client:
        job = number(client.post("/jobs", content=document(secret_url(hook)), headers=XML))
        assert site.ended(job) == "succeeded"
        given = client.get(f"/jobs/{job}.json").json()["parameters"]
        again = {"workflow": "told", "parameters": given}
        answer = client.post(
            "/jobs", content=json.dumps(again), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
        assert "was shortened to be shown; give it whole" in answer.text
